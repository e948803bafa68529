"""Subjects by their colour: what differs from the picture's frame, divided by the colours that captions name.

For pictures whose subjects stand free before a calm background. Background colours are those of the picture's frame,
in every light from bright to deep shadow. What differs is smoothed along the picture's edges (a mean field with
contrast weights), seeds of each subject are pixels of its caption's colour, and every other pixel goes to the seed that
is nearest along a path that avoids edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from sigma_annotators.classical.colour import NAMED, NEUTRAL, SHADES, clusters, colour_word, lab, nearest, shaded
from sigma_annotators.classical.config import ColourSegmenterConfig
from sigma_annotators.records import box_of, kept, require, thinned

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FRAME = 3
"""Pixels at each border that are taken for background."""
_FRAME_COLOURS = 16
_BACKGROUND_SHADES = (1.12, 1.0, 0.88, 0.76, 0.64, 0.52, 0.42)
_BACKGROUND_BRIGHTNESS = 0.6
_ROUNDS = 30
_GAIN = 0.6
"""Log odds per unit of colour difference."""
_MARGIN = 4.0
"""By so much a seed must fit its caption better than any other."""
_CROSSING = 40.0
"""Cost of a step off the foreground."""


@dataclass(frozen=True)
class ColourSegmenter:
    """Adds ``masks`` and ``boxes_xyxy``; subjects that are not found go, with all that is said of them."""

    config: ColourSegmenterConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Records without any subject found are dropped; draws nothing from ``rng``."""
        return kept(self.annotate_or_reject(records, rng))

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead."""
        for number, record in enumerate(records):
            require(record, number, "colour_segmenter", ("target", "captions"))
            if record.get("masks") is not None:  # an annotation that is there is kept
                yield record
                continue
            masks = self.segment(record["target"], list(record["captions"]))
            found = [k for k, mask in enumerate(masks) if mask.any()]
            counts = {"subjects not found": len(masks) - len(found)}
            if not found:
                yield {"key": record.get("key", ""), "rejected": "no subject found", "counts": counts}
                continue
            kept = thinned(record, found, ("captions",))
            boxes = np.array([box_of(masks[k]) for k in found])
            yield {**kept, "masks": masks[found], "boxes_xyxy": boxes, "mask_kind": "visible", "counts": counts}

    def segment(self, picture: NDArray[np.uint8], captions: Sequence[str]) -> Mask:
        """(N, H, W) visible masks, empty where a subject was not found."""
        height, width = picture.shape[:2]
        scale = min(1.0, self.config.working_side / max(height, width))
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX)) if scale < 1 else picture
        masks = self._segment(small, captions)
        if scale == 1:
            return masks
        grown = [Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST) for mask in masks]
        return np.stack([np.asarray(one) for one in grown])

    def _segment(self, picture: NDArray[np.uint8], captions: Sequence[str]) -> Mask:
        seen = lab(picture)
        inside = _cleaned(_smoothed(_GAIN * (_unlike_frame(picture, seen) - self.config.threshold), seen, self.config))
        masks = np.zeros((len(captions), *inside.shape), bool)
        if not inside.any():
            return masks
        seeds = self._seeds(seen, inside, [colour_word(caption) for caption in captions])
        owner = _spread(inside, seeds, seen)
        for k in range(len(captions)):
            masks[k] = _main_part(inside & (owner == k), seeds == k)
        return masks

    def _seeds(self, seen: Array, inside: Mask, words: Sequence[str | None]) -> NDArray[np.int64]:
        """(H, W) number of the subject whose seed a pixel is, -1 elsewhere."""
        costs = np.stack([_unlike_colour(seen, word) for word in words])
        first = np.sort(costs, axis=0)
        margin = first[1] - first[0] if len(words) > 1 else np.full(inside.shape, np.inf)
        best = costs.argmin(axis=0)
        seeds = np.full(inside.shape, -1, np.int64)
        for k, word in enumerate(words):
            if word is None:
                continue
            fits = inside & (best == k) & (costs[k] < self.config.colour_tolerance) & (margin > _MARGIN)
            opened = ndimage.binary_opening(fits)
            fits = opened if opened.any() else fits
            joined, count = ndimage.label(ndimage.binary_dilation(fits, iterations=2) & inside)
            weight = np.bincount(joined[fits], self.config.colour_tolerance - costs[k][fits], minlength=count + 1)
            weight[0] = 0
            chosen = (joined == weight.argmax()) & fits
            if np.count_nonzero(chosen) >= self.config.min_seed_pixels:
                seeds[chosen] = k
        nameless = [k for k, word in enumerate(words) if word is None]
        if len(nameless) == 1:  # the one subject without a colour is the largest thing left
            free = _main_part(inside & ~ndimage.binary_dilation(seeds >= 0, iterations=3), inside)
            seeds[ndimage.binary_erosion(free) & (seeds < 0)] = nameless[0]
        return seeds


def _unlike_frame(picture: NDArray[np.uint8], seen: Array) -> Array:
    """(H, W) difference from the nearest background colour; shadow counts a little more the deeper it would be."""
    frame = np.zeros(picture.shape[:2], bool)
    frame[:_FRAME] = frame[-_FRAME:] = frame[:, :_FRAME] = frame[:, -_FRAME:] = True
    centres = clusters(picture[frame].astype(np.float64), _FRAME_COLOURS)
    pixels = seen.reshape(-1, 3)
    difference = np.full(len(pixels), np.inf)
    for shade, colours in zip(_BACKGROUND_SHADES, shaded(centres, _BACKGROUND_SHADES), strict=True):
        depth = 4 * max(0.0, 0.88 - shade)
        difference = np.minimum(difference, nearest(pixels, colours, _BACKGROUND_BRIGHTNESS) + depth)
    return difference.reshape(picture.shape[:2])


def _unlike_colour(seen: Array, word: str | None) -> Array:
    """(H, W) difference from a named colour in any light; a caption without one fits nowhere."""
    if word is None:
        return np.full(seen.shape[:2], 1e6)
    colours = shaded(np.array([NAMED[word]], np.float64), SHADES).reshape(-1, 3)
    difference = nearest(seen.reshape(-1, 3), colours, 0.8 if word in NEUTRAL else 0.35)
    smoothed: Array = ndimage.uniform_filter(difference.reshape(seen.shape[:2]), 3)
    return smoothed


def _smoothed(odds: Array, seen: Array, config: ColourSegmenterConfig) -> Mask:
    """Mean field of a binary Markov field: log odds per pixel, neighbours bound by how alike they are."""
    down, right = ((np.diff(seen, axis=axis) ** 2).sum(axis=-1) for axis in (0, 1))
    down, right = (np.exp(-step / max(2 * step.mean(), 1e-6)) * config.smoothness for step in (down, right))
    odds = np.clip(odds, -8, 8)
    lean = np.tanh(odds / 2)
    for _ in range(_ROUNDS):
        pull = np.zeros_like(lean)
        pull[1:] += down * lean[:-1]
        pull[:-1] += down * lean[1:]
        pull[:, 1:] += right * lean[:, :-1]
        pull[:, :-1] += right * lean[:, 1:]
        lean = np.tanh((odds + pull) / 2)
    return np.asarray(lean > 0)


def _cleaned(inside: Mask) -> Mask:
    """Without holes, threads and specks."""
    inside = ndimage.binary_opening(ndimage.binary_fill_holes(inside), np.ones((2, 2)))
    parts, _ = ndimage.label(inside)
    large = np.bincount(parts.ravel()) >= 20
    large[0] = False
    return np.asarray(large[parts])


def _spread(inside: Mask, seeds: NDArray[np.int64], seen: Array) -> NDArray[np.int64]:
    """(H, W) the seed that each pixel is nearest to: a step costs 1, more across an edge, most off the foreground."""
    height, width = inside.shape
    numbers = np.arange(height * width).reshape(height, width)
    rows, columns, costs = [], [], []
    for axis in (0, 1):
        here = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        there = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        step = 1 + 0.15 * np.sqrt((np.diff(seen, axis=axis) ** 2).sum(axis=-1))
        costs.append((step + np.where(inside[here] & inside[there], 0, _CROSSING)).ravel())
        rows.append(numbers[here].ravel())
        columns.append(numbers[there].ravel())
    flat = seeds.ravel()
    start = np.flatnonzero(flat >= 0)
    if len(start) == 0:
        return seeds
    graph = sparse.csr_matrix(
        (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), shape=(flat.size, flat.size)
    )
    _, _, source = dijkstra(graph, directed=False, indices=start, min_only=True, return_predecessors=True)
    return np.where(source >= 0, flat[np.maximum(source, 0)], -1).reshape(height, width)


def _main_part(mask: Mask, weight: Mask) -> Mask:
    """The connected part that holds most of ``weight``."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    held = np.bincount(parts[weight], minlength=count + 1)
    held[0] = 0
    return np.asarray(parts == held.argmax())
