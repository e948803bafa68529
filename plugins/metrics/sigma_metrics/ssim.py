"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) with a uniform window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sigma_framework import Result, Scene
from sigma_metrics.config import SsimConfig

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Stabilising constants of the paper for 8-bit images."""
_LUMA = np.array([0.299, 0.587, 0.114])
"""Rec. 601 luma weights."""


class Ssim:
    """Mean structural similarity of the luma, against the target."""

    def __init__(self, config: SsimConfig) -> None:
        self._window = config.window
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image of the result; NaN without a target."""
        for image in result.images:
            missing = target is None
            self._values.append(
                math.nan if missing else similarity(np.asarray(image), np.asarray(target), self._window)
            )

    def compute(self) -> Mapping[str, Sequence[float]]:
        """1 for equal images, near 0 for unrelated ones."""
        return {"ssim": tuple(self._values)}


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8], window: int) -> float:
    """Mean over all windows that lie inside the picture; pictures (H, W, 3) uint8 of one size."""
    x, y = first @ _LUMA, second @ _LUMA
    mean_x, mean_y = _windowed(x, window), _windowed(y, window)
    unbiased = window**2 / (window**2 - 1)
    var_x = (_windowed(x * x, window) - mean_x**2) * unbiased
    var_y = (_windowed(y * y, window) - mean_y**2) * unbiased
    covariance = (_windowed(x * y, window) - mean_x * mean_y) * unbiased
    above = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    below = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return float((above / below).mean())


def _windowed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of every window, by two running sums."""
    total = np.cumsum(np.cumsum(np.pad(values, ((1, 0), (1, 0))), axis=0), axis=1)
    w = window
    return (total[w:, w:] - total[:-w, w:] - total[w:, :-w] + total[:-w, :-w]) / w**2
