"""Which of the subjects found in an image are worth training on (section A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.config import SubjectFilterConfig
from sigma_annotators.records import kept, thinned
from sigma_framework import DataError

SUBJECT_KEYS = ("masks", "boxes_xyxy", "captions")
"""What a record must hold, one entry per subject."""


@dataclass(frozen=True, slots=True)
class SubjectFilter:
    """Drops subjects whose box is too small or too large and subjects found twice; drops records with too few left.

    A record holds ``masks`` (N, H, W) bool, ``boxes_xyxy`` (N, 4) pixels with right and bottom exclusive, and
    ``captions``, N texts; keys named in ``per_subject`` (N entries each) are thinned the same way, everything else is
    handed on. Of two overlapping masks the earlier one stays: segmenters give the surest first.
    """

    config: SubjectFilterConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Filters one batch; draws nothing from ``rng``.

        Raises:
            DataError: a record lacks a key, or its arrays do not fit together.
        """
        for record in kept(self.annotate_or_reject(records, rng)):
            yield {key: value for key, value in record.items() if key != "counts"}

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead."""
        for number, record in enumerate(records):
            masks, boxes = _read(record, number)
            share = _box_shares(masks, boxes)
            small, large = share < self.config.min_area_share, share > self.config.max_area_share
            empty = ~masks.any(axis=(1, 2))
            sized = [int(index) for index in np.flatnonzero(~(small | large | empty))]
            keep = _first_of_doubles(masks, sized, self.config)
            single = len(keep)
            if record.get("mask_kind", "visible") == "visible":
                keep = _not_covered(masks, keep)
            counts = {
                "subjects too small": int(np.count_nonzero(small | empty)),
                "subjects too large": int(np.count_nonzero(large & ~empty)),
                "subjects found twice": len(sized) - single,
                "subjects covered by smaller ones": single - len(keep),
            }
            if len(keep) >= self.config.min_subjects:
                yield {**thinned(record, keep, SUBJECT_KEYS), "counts": counts}
            else:
                reason = f"fewer than {self.config.min_subjects} subjects left"
                yield {"key": record.get("key", ""), "rejected": reason, "counts": counts}


def _box_shares(masks: NDArray[np.bool_], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) each box's share of the image's area."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    shares: NDArray[np.float64] = sides[:, 0] * sides[:, 1] / float(masks.shape[1] * masks.shape[2])
    return shares


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """Intersection over union, and intersection over the smaller mask; (H, W) bool each, neither empty."""
    shared = float(np.count_nonzero(one & other))
    areas = float(np.count_nonzero(one)), float(np.count_nonzero(other))
    return shared / (sum(areas) - shared), shared / min(areas)


def _first_of_doubles(masks: NDArray[np.bool_], candidates: Sequence[int], config: SubjectFilterConfig) -> list[int]:
    kept: list[int] = []
    for index in candidates:
        overlaps = (overlap(masks[index], masks[earlier]) for earlier in kept)
        if not any(iou > config.max_iou or inside > config.max_containment for iou, inside in overlaps):
            kept.append(index)
    return kept


def _not_covered(masks: NDArray[np.bool_], candidates: Sequence[int]) -> list[int]:
    """Those that keep a pixel when of overlapping masks the smaller ones lie in front, as sets are read."""
    taken = np.zeros(masks.shape[1:], bool)
    kept: list[int] = []
    for index in sorted(candidates, key=lambda one: int(np.count_nonzero(masks[one]))):
        if (masks[index] & ~taken).any():
            kept.append(index)
            taken |= masks[index]
    return sorted(kept)


def _read(record: Mapping[str, Any], number: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    name = record.get("key", f"record {number}")
    if missing := [key for key in SUBJECT_KEYS if key not in record]:
        raise DataError(f"{name}: subject_filter needs {', '.join(missing)}; put a stage that finds subjects before it")
    masks = np.asarray(record["masks"])
    boxes = np.asarray(record["boxes_xyxy"], dtype=np.float64).reshape(-1, 4)
    if masks.ndim != 3 or masks.dtype != np.bool_:
        raise DataError(f"{name}: masks: found {masks.dtype} of shape {masks.shape}, expected bool of shape (N, H, W)")
    counts = {"masks": len(masks), "boxes_xyxy": len(boxes), "captions": len(record["captions"])}
    if len(set(counts.values())) > 1:
        raise DataError(f"{name}: found {counts}, expected one entry per subject in each")
    return masks, boxes
