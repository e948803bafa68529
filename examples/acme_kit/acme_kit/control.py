"""``acme_disc``: a subject inside a disc."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acme_kit.config import DiscConfig, DiscGeometry
from sigma_framework import Canvas, ControlLayer, SubjectAnnotation


@dataclass(frozen=True)
class DiscControl:
    """Region: pixels whose centre is inside the disc."""

    config: DiscConfig

    def encode(self, geometry: DiscGeometry, canvas: Canvas) -> ControlLayer:
        """The disc."""
        if geometry.radius <= 0:
            raise ValueError(f"radius: found {geometry.radius}, expected a number above 0")
        rows, columns = np.mgrid[: canvas.height, : canvas.width] + 0.5
        x, y = geometry.center
        return ControlLayer(region=(columns - x) ** 2 + (rows - y) ** 2 <= geometry.radius**2)

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> DiscGeometry:
        """A disc as large as the subject's box, its radius jittered."""
        x0, y0, x1, y1 = subject.box2d
        radius = max(x1 - x0, y1 - y0) / 2 * float(np.exp(rng.normal(0, self.config.jitter)))
        return DiscGeometry(center=((x0 + x1) / 2, (y0 + y1) / 2), radius=max(radius, 1.0))
