"""``mask``: a free-form region without depth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sigma_controls.config import MaskConfig
from sigma_controls.geometry import MaskGeometry
from sigma_framework import Canvas, ControlLayer, SubjectAnnotation, dilate_mask, draw_dilation


@dataclass(frozen=True)
class MaskControl:
    """The region is the mask; channel 2 stays 0 (section 3.4)."""

    config: MaskConfig = field(default_factory=MaskConfig)
    """Augmentation."""

    def encode(self, geometry: MaskGeometry, canvas: Canvas) -> ControlLayer:
        """The mask as a region; raises ``ValueError`` when it has another size or no pixel."""
        return ControlLayer(region=checked_mask(geometry.file, canvas))

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> MaskGeometry:
        """The annotated mask, dilated by a random radius."""
        mask = checked_mask(subject.mask, canvas)
        return MaskGeometry(file=dilate_mask(mask, draw_dilation(rng, canvas.size_hw, self.config.dilate_fraction)))


def checked_mask(mask: object, canvas: Canvas) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """A copy of an (H, W) bool mask of the canvas's size with at least one pixel; raises ``ValueError`` otherwise."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != canvas.size_hw:
        found = f"{mask.shape} {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ValueError(f"mask: found {found}, expected {canvas.size_hw} bool")
    if not mask.any():
        raise ValueError("mask: has no pixel")
    return mask.copy()
