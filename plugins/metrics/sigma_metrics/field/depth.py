"""Does the image have the depth that was asked for: its depth is estimated and compared on the subjects' pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from sigma_framework import Result, Scene
from sigma_metrics.field.config import ESTIMATORS, DepthMseConfig
from sigma_metrics.field.pretrained import find_model, load_model
from sigma_metrics.layout import levels

_STRUCTURE = 2
"""Channel of ``I^C`` that says depth (section 3.4); 0 is no subject."""
_SMALLEST_METRES = 1e-3


class DepthMse:
    """Mean squared difference between asked and estimated depth, both as relative inverse depth of 26 to 255.

    Both maps go through the same mapping over the same subject pixels, so neither scale nor shift of an estimator
    counts (section 4.2 leaves the mapping open).
    """

    def __init__(self, config: DepthMseConfig) -> None:
        self._config = config
        known, gives = ESTIMATORS.get(config.estimator, (None, None))
        self._gives = config.gives or gives
        weights = config.weights or known
        assert weights is not None  # the options make sure of it
        # Other weights under a known estimator's name are another estimator: they must not share its column.
        other = "" if known is None or Path(weights).name == known.rpartition("/")[2] else Path(weights).name
        self._name = f"depth_mse[{', '.join(part for part in (config.estimator, other) if part)}]"
        self._place = find_model("depth_mse", weights, config.revision, config.device)
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image; NaN where a subject's depth was not given exactly."""
        asked = result.controls.spatial[..., _STRUCTURE]
        subjects = result.controls.regions.any(axis=0) & (asked > 0)
        exact = all(subject.control["type"] in self._config.controls for subject in scene.subjects)
        for image in result.images:
            if not (exact and subjects.any()):
                self._values.append(math.nan)
                continue
            near = self._nearness(image)[subjects]
            error = levels(near) - levels(asked[subjects].astype(np.float32))
            self._values.append(float((error**2).mean()))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """Squared levels of 255, lower is better; the estimator is part of the name."""
        return {self._name: tuple(self._values)}

    def facts(self) -> Mapping[str, Any]:
        """What the number was made with."""
        estimator = load_model(self._place, "AutoModelForDepthEstimation").facts
        return {**estimator, "estimator": self._config.estimator, "gives": self._gives}

    @torch.no_grad()
    def _nearness(self, image: Image.Image) -> NDArray[np.float32]:
        """(H, W) relative inverse depth of a picture's size."""
        estimator = load_model(self._place, "AutoModelForDepthEstimation")
        depth = estimator.model(pixel_values=estimator.pixels([image])).predicted_depth.float()
        size = image.height, image.width
        depth = functional.interpolate(depth[:, None], size=size, mode="bicubic", align_corners=False)[0, 0]
        if self._gives == "metric":
            depth = 1 / depth.clamp(min=_SMALLEST_METRES)
        return depth.cpu().numpy().astype(np.float32)
