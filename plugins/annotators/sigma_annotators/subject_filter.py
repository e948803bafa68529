"""Which of the subjects found in an image are worth training on (section A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.config import SubjectFilterConfig
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
        for number, record in enumerate(records):
            masks, boxes = _read(record, number)
            keep = _first_of_doubles(masks, self._sized(masks, boxes), self.config)
            if len(keep) >= self.config.min_subjects:
                yield _thinned(record, keep)

    def _sized(self, masks: NDArray[np.bool_], boxes: NDArray[np.float64]) -> list[int]:
        """Subjects whose box has an allowed share of the image's area and whose mask is not empty."""
        area = float(masks.shape[1] * masks.shape[2])
        sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
        share = sides[:, 0] * sides[:, 1] / area
        allowed = (share >= self.config.min_area_share) & (share <= self.config.max_area_share)
        return [int(index) for index in np.flatnonzero(allowed & masks.any(axis=(1, 2)))]


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


def _thinned(record: Mapping[str, Any], keep: Sequence[int]) -> dict[str, Any]:
    """The record with only the kept subjects in every per-subject key."""
    chosen = dict(record)
    for key in {*SUBJECT_KEYS, *record.get("per_subject", ())}:
        values = record[key]
        chosen[key] = values[list(keep)] if isinstance(values, np.ndarray) else type(values)(values[i] for i in keep)
    return chosen
