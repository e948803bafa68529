"""Subjects placed by ellipses: a control as a third-party plugin."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sigma_framework import Canvas, ControlLayer, ControlSpec, SubjectAnnotation, hookimpl

SIGMA_PLUGIN_API = 1


@dataclass(frozen=True, kw_only=True)
class EllipseGeometry:
    xyxy: tuple[float, float, float, float]
    """Box around the ellipse, pixels; a scene writes it: control: {type: ellipse, xyxy: [8, 8, 56, 40]}"""


@dataclass(frozen=True, kw_only=True)
class EllipseConfig:
    scale: float = 1.0
    """Ellipse axes over box axes; a recipe writes it: controls: {ellipse: {type: ellipse, scale: 0.9}}"""

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 2:
            raise ValueError(f"scale: found {self.scale}, expected a number above 0 and at most 2")


@dataclass(frozen=True)
class EllipseControl:
    config: EllipseConfig

    def encode(self, geometry: EllipseGeometry, canvas: Canvas) -> ControlLayer:
        x0, y0, x1, y1 = geometry.xyxy
        rows, columns = np.mgrid[: canvas.height, : canvas.width] + 0.5
        across = (columns - (x0 + x1) / 2) / ((x1 - x0) / 2 * self.config.scale)
        down = (rows - (y0 + y1) / 2) / ((y1 - y0) / 2 * self.config.scale)
        return ControlLayer(region=across**2 + down**2 <= 1)

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> EllipseGeometry:
        return EllipseGeometry(xyxy=subject.box2d)


@hookimpl
def sigma_register_controls() -> Iterable[ControlSpec]:
    yield ControlSpec(
        name="ellipse",
        config=EllipseConfig,
        geometry=EllipseGeometry,
        factory=EllipseControl,
        summary="the ellipse inside a box",
    )
