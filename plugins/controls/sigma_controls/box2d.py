"""``box2d``: a filled rectangle without depth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from sigma_controls.config import Box2DConfig
from sigma_controls.geometry import Box2DGeometry
from sigma_framework import Canvas, ControlLayer, SubjectAnnotation, draw_dilation, jitter_box


@dataclass(frozen=True)
class Box2DControl:
    """The region is every pixel whose centre lies in the box; channel 2 stays 0 (section 3.4)."""

    config: Box2DConfig = field(default_factory=Box2DConfig)
    """Augmentation."""

    def encode(self, geometry: Box2DGeometry, canvas: Canvas) -> ControlLayer:
        """The rectangle, clipped to the image; raises ``ValueError`` when it has no pixel there."""
        x0, y0, x1, y1 = geometry.xyxy
        left, right = first_centre(x0, canvas.width), first_centre(x1, canvas.width)
        top, bottom = first_centre(y0, canvas.height), first_centre(y1, canvas.height)
        if left >= right or top >= bottom:
            place = "outside the image" if _is_outside(geometry, canvas) else "between pixel centres"
            size = f"the image is {canvas.width}x{canvas.height} pixels"
            raise ValueError(f"xyxy: the box {list(geometry.xyxy)} lies {place}; {size}")
        region = np.zeros(canvas.size_hw, dtype=np.bool_)
        region[top:bottom, left:right] = True
        return ControlLayer(region=region)

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> Box2DGeometry:
        """The annotated box, grown by a random margin, its aspect ratio jittered, clipped to the image."""
        radius = draw_dilation(rng, canvas.size_hw, self.config.dilate_fraction)
        x0, y0, x1, y1 = jitter_box(subject.box2d, rng, radius, self.config.aspect_jitter)
        box = (max(0.0, x0), max(0.0, y0), min(float(canvas.width), x1), min(float(canvas.height), y1))
        return Box2DGeometry(xyxy=box)


def first_centre(edge: float, length: int) -> int:
    """The first pixel, 0 to ``length``, whose centre (index + 0.5) is not before ``edge``."""
    return int(min(max(math.ceil(edge - 0.5), 0), length))


def _is_outside(geometry: Box2DGeometry, canvas: Canvas) -> bool:
    x0, y0, x1, y1 = geometry.xyxy
    return x1 <= 0 or y1 <= 0 or x0 >= canvas.width or y0 >= canvas.height
