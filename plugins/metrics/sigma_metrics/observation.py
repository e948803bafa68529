"""What the judge makes of one generated image and its layout: shared by all measures that rest on it.

Three rules keep it honest. The judge reads the image alone; the layout only says for which subject a pixel that was
found to be a subject is counted. Each such pixel is counted for one subject. A subject that is not there scores 0.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_framework import Result
from sigma_metrics.judge.model import Judge, Reading

BoolMap = NDArray[np.bool_]
PRESENT_SHARE = 0.2
"""A region of which less is covered by its subject counts as empty: a neighbour's rim is no subject."""
PRESENT_PIXELS = 12
"""Fewer pixels show nothing that could be recognised, whatever the region's size."""
_REMEMBERED = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """N subjects, H x W pixels."""

    reading: Reading
    """The image as the judge sees it."""
    bodies: BoolMap
    """(N, H, W): every subject pixel of the image, given to the region whose middle its vote comes closest to."""
    shown: BoolMap
    """(N, H, W): the subject pixels inside a region; where regions overlap, votes decide."""
    present: NDArray[np.bool_]
    """(N,) whether a region holds a subject."""
    similarity: NDArray[np.float32]
    """(N, N) cosine between what region i shows and identity image j; 0 for a region without a subject."""


class Observer:
    """Remembers the last images, because several measures look at the same one."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._seen: OrderedDict[bytes, Observation] = OrderedDict()

    def observe(self, result: Result, number: int) -> Observation:
        """Image ``number`` of a result."""
        picture = np.asarray(result.images[number].convert("RGB"))
        regions, stack = result.controls.regions, result.controls.identity
        digest = hashlib.sha256(picture.tobytes() + regions.tobytes() + stack.tobytes()).digest()
        if digest not in self._seen:
            self._seen[digest] = look(self._judge, picture, regions, stack)
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return self._seen[digest]


@functools.cache
def shared_observer() -> Observer:
    """One observer with the shipped judge for all measures of a process."""
    return Observer(Judge())


def look(judge: Judge, picture: NDArray[np.uint8], regions: BoolMap, stack: NDArray[np.uint8]) -> Observation:
    """Reads the picture and compares what the regions show with the identity images.

    Args:
        judge: the model.
        picture: (H, W, 3) uint8.
        regions: (N, H, W) bool, what was asked for.
        stack: ``I^S``, (N*S, S, 3) uint8.
    """
    reading = judge.read(picture)
    nearest = nearest_region(reading, regions)
    bodies = one_hot(nearest, len(regions)) & reading.subject
    inside = nearest_region(reading, regions, only_inside=True)
    shown = one_hot(inside, len(regions)) & regions & reading.subject
    covered, areas = shown.sum((1, 2)), regions.sum((1, 2))
    present = (covered >= PRESENT_SHARE * areas) & (covered >= PRESENT_PIXELS)
    found = judge.embed_subjects(picture, shown & present[:, None, None])
    wanted = judge.embed_identities(identities_of(stack, len(regions)))
    return Observation(
        reading=reading, bodies=bodies, shown=shown, present=present, similarity=(found @ wanted.T).astype(np.float32)
    )


def nearest_region(reading: Reading, regions: BoolMap, only_inside: bool = False) -> NDArray[np.int64]:
    """(H, W) index of the region whose middle is nearest to the pixel's vote; ``only_inside``: of those it lies in."""
    distances = np.full(regions.shape, np.inf, np.float32)
    for index, region in enumerate(regions):
        rows, columns = np.nonzero(region)
        if len(rows):
            x, y = reading.middles[0] - columns.mean(), reading.middles[1] - rows.mean()
            distances[index] = np.where(region | (not only_inside), x * x + y * y, np.inf)
    return distances.argmin(axis=0)


def one_hot(index: NDArray[np.int64], count: int) -> BoolMap:
    """(H, W) -> (count, H, W)."""
    return index[None] == np.arange(count)[:, None, None]


def identities_of(stack: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """The blocks of ``I^S``."""
    return np.split(stack, count)
