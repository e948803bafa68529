"""Where and how near the subjects are, and what became of the rest: region IoU, depth error, background change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sigma_framework import Result, Scene
from sigma_metrics.config import BackgroundChangeConfig, JudgeDepthMseConfig, RegionIouConfig
from sigma_metrics.observation import shared_observer

_STRUCTURE = 2
"""Channel of ``I^C`` that says depth (section 3.4); 0 is no subject."""
_FARTHEST, _SPAN = 26, 229
"""Levels of the farthest subject pixel and from it to the nearest, as in that channel."""


class RegionIou:
    """Mean over subjects of the overlap between the region asked for and the body found, over their union."""

    def __init__(self, config: RegionIouConfig) -> None:
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        for number in range(len(result.images)):
            seen = shared_observer().observe(result, number)
            self._values.append(float(np.mean(overlaps(seen.bodies, result.controls.regions))))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """0 to 1, higher is better; for boxes the best is the share that a subject fills."""
        return {"region_iou": tuple(self._values)}


class JudgeDepthMse:
    """Squared error of relative depth on subject pixels, both maps put to 26..255 in the same way."""

    def __init__(self, config: JudgeDepthMseConfig) -> None:
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image; NaN when the control says no depth."""
        asked = result.controls.spatial[..., _STRUCTURE]
        subjects = result.controls.regions.any(axis=0) & (asked > 0)
        for number in range(len(result.images)):
            if not subjects.any():
                self._values.append(math.nan)
                continue
            nearness = shared_observer().observe(result, number).reading.nearness[subjects]
            error = levels(nearness) - levels(asked[subjects].astype(np.float32))
            self._values.append(float((error**2).mean()))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """Squared levels, lower is better; a flat picture gives what the depth itself varies."""
        return {"judge_depth_mse": tuple(self._values)}


class BackgroundChange:
    """Mean absolute difference from the target outside all regions, in levels of 255."""

    def __init__(self, config: BackgroundChangeConfig) -> None:
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image; NaN without a target or without a pixel outside the regions."""
        outside = ~result.controls.regions.any(axis=0)
        for image in result.images:
            if target is None or not outside.any():
                self._values.append(math.nan)
                continue
            change = np.abs(np.asarray(image.convert("RGB"), np.float32) - target.astype(np.float32))
            self._values.append(float(change[outside].mean()))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """0 to 255, lower is better."""
        return {"background_change": tuple(self._values)}


def overlaps(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, H, W) each -> (N,) intersection over union; 0 where both are empty."""
    union = (first | second).sum((1, 2))
    return np.asarray((first & second).sum((1, 2)) / np.maximum(union, 1), np.float64)


def levels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Relative inverse depth -> 26 for the smallest and 255 for the largest value; all equal: 255."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.full_like(values, _FARTHEST + _SPAN)
    return np.asarray(_FARTHEST + _SPAN * (values - low) / (high - low), np.float32)
