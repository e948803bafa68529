"""``depth``: a free-form region with depth per pixel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sigma_controls.config import DepthConfig
from sigma_controls.geometry import DepthGeometry
from sigma_controls.mask import checked_mask
from sigma_framework import Canvas, ControlLayer, DepthRaster, SubjectAnnotation, dilate_mask, draw_dilation


@dataclass(frozen=True)
class DepthControl:
    """The region is the mask, its depth the map on it (section 3.4)."""

    config: DepthConfig = field(default_factory=DepthConfig)
    """Augmentation."""

    def encode(self, geometry: DepthGeometry, canvas: Canvas) -> ControlLayer:
        """Mask and depth as a layer.

        Raises:
            ValueError: another size, an empty mask, depth that is not finite and positive on the mask, or near and far
                for depth that is in metres already.
        """
        region = checked_mask(geometry.mask, canvas)
        raster = geometry.depth
        if not isinstance(raster, DepthRaster) or raster.values.shape != canvas.size_hw:
            found = raster.values.shape if isinstance(raster, DepthRaster) else type(raster).__name__
            raise ValueError(f"depth: found {found}, expected a depth map of size {canvas.size_hw}")
        if raster.kind == "metric" and geometry.near is not None:
            raise ValueError("near and far belong to disparity; this depth is in metres already")
        _require_usable(raster, region)
        depth = np.where(region, raster.values, np.float32(0)).astype(np.float32)
        return ControlLayer(
            region=region, depth=depth, depth_kind=raster.kind, near_metres=geometry.near, far_metres=geometry.far
        )

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> DepthGeometry:
        """The annotated mask, dilated by a random radius, and depth; the rim takes depth from the subject beside it."""
        if subject.depth is None:
            raise ValueError("depth: the annotation has no depth")
        mask = checked_mask(subject.mask, canvas)
        dilated = dilate_mask(mask, draw_dilation(rng, canvas.size_hw, self.config.dilate_fraction))
        values = extend_depth(subject.depth, mask, dilated)
        return DepthGeometry(mask=dilated, depth=DepthRaster(values=values, kind="metric"), depth_kind="metric_m")


def extend_depth(depth: NDArray[np.float32], mask: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Depth on ``wanted``, a superset of ``mask``: elsewhere 0, on the rim the value of a nearby mask pixel.

    Along the row first, then, for what no row reaches, along the column.
    """
    values = np.where(mask, depth, np.float32(0)).astype(np.float32)
    if np.array_equal(mask, wanted):
        return values
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    along_rows, known = _fill_rows(values[window], mask[window])
    along_columns, _ = _fill_rows(along_rows.T, known.T)
    values[window] = np.where(wanted[window], along_columns.T, np.float32(0))
    return values


def _fill_rows(values: NDArray[np.float32], known: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Every value of a row that has a known one becomes the nearest known one's; and which rows those are."""
    width = known.shape[1]
    columns = np.arange(width)
    left = np.maximum.accumulate(np.where(known, columns, -width), axis=1)
    right = np.minimum.accumulate(np.where(known, columns, 2 * width)[:, ::-1], axis=1)[:, ::-1]
    source = np.where(columns - left <= right - columns, left, right)
    filled = np.take_along_axis(values, np.clip(source, 0, width - 1), axis=1)
    return filled, np.repeat(known.any(axis=1, keepdims=True), width, axis=1)


def _require_usable(raster: DepthRaster, region: NDArray[np.bool_]) -> None:
    values = raster.values[region]
    usable = np.isfinite(values) & ((values > 0) if raster.kind == "metric" else (values >= 0))
    if not usable.all():
        bad = 1 - np.count_nonzero(usable) / values.size
        expected = "positive metres" if raster.kind == "metric" else "0 or more"
        nans = " (NaN)" if np.isnan(values).any() else ""
        raise ValueError(f"depth: {bad:.1%} of the mask's pixels are not usable{nans}, expected finite {expected}")
