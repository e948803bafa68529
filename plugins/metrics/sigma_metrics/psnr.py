"""Peak signal to noise ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sigma_framework import Result, Scene
from sigma_metrics.config import PsnrConfig

_PEAK = 255.0


class Psnr:
    """``10 log10(255^2 / mean squared error)`` per image, against the target."""

    def __init__(self, config: PsnrConfig) -> None:
        self._config = config
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image of the result; NaN without a target."""
        for image in result.images:
            if target is None:
                self._values.append(math.nan)
                continue
            error = (np.asarray(image, np.float64) - target.astype(np.float64)) ** 2
            if self._config.subjects_only:
                error = error[result.controls.regions.any(axis=0)]
            mean = float(error.mean()) if error.size else math.nan
            self._values.append(math.inf if mean == 0 else 10 * math.log10(_PEAK**2 / mean))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """Decibels, higher is better; inf for equal images."""
        return {"psnr_subjects" if self._config.subjects_only else "psnr": tuple(self._values)}
