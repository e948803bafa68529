"""What a scene writes under ``control:`` for each type, besides ``type`` itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sigma_framework import Box3D, Raster, SceneFile


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskGeometry:
    """A free-form region (A.3, Figure 11)."""

    file: Annotated[Any, Raster("mask")]
    """In a scene a picture of the scene's size; for the encoder (H, W) bool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthGeometry:
    """A free-form region with depth per pixel."""

    mask: Annotated[Any, Raster("mask")]
    """In a scene a picture of the scene's size; for the encoder (H, W) bool."""
    depth: Annotated[Any, Raster("depth")]
    """In a scene a picture of the scene's size; for the encoder a ``DepthRaster``. Read on the mask alone."""
    depth_kind: Literal["metric_m", "metric_mm", "disparity"] | None = None
    """What the depth file's values are; None: 8 bits disparity, 16 bits millimetres, floats metres."""
    near: float | None = None
    """For disparity: metres of its largest value on the mask; needed to mix it with metric depth."""
    far: float | None = None
    """For disparity: metres of its smallest value on the mask."""

    def __post_init__(self) -> None:
        if (self.near is None) != (self.far is None):
            raise ValueError("near and far go together: give both, or none")
        if self.near is not None and self.far is not None and not 0 < self.near <= self.far:
            raise ValueError(f"found near {self.near} and far {self.far}, expected 0 < near <= far, in metres")


@dataclass(frozen=True, kw_only=True)
class Box2DGeometry:
    """A rectangle in the image."""

    xyxy: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels, right and bottom exclusive; may reach over the edge of the image."""

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.xyxy
        if not (x1 > x0 and y1 > y0):
            raise ValueError(f"xyxy: found {list(self.xyxy)}, expected x1 greater than x0 and y1 greater than y0")


@dataclass(frozen=True, kw_only=True)
class Box3DGeometry:
    """An oriented box in camera coordinates (x right, y down, z forward)."""

    center: tuple[float, float, float]
    """Metres."""
    size: tuple[float, float, float]
    """Full extents along the box's own axes, metres."""
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees (rx, ry, rz), R = Rz Ry Rx, about the centre."""

    def __post_init__(self) -> None:
        if min(self.size) <= 0:
            raise ValueError(f"size: found {list(self.size)}, expected three positive extents in metres")
        if not all(math.isfinite(value) for value in (*self.center, *self.size, *self.rotation)):
            raise ValueError("center, size and rotation must be finite")

    @property
    def box(self) -> Box3D:
        """The same box as a record of the framework."""
        return Box3D(center=self.center, size=self.size, rotation=self.rotation)


@dataclass(frozen=True, kw_only=True)
class MeshGeometry:
    """A mesh with a pose in camera coordinates (Figure 1)."""

    file: Annotated[Any, SceneFile((".glb", ".obj"))]
    """In a scene a GLB or OBJ; for the encoder its ``FileContent``."""
    position: tuple[float, float, float]
    """Where the anchor comes to lie: metres, x right, y down, z forward."""
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees (rx, ry, rz), R = Rz Ry Rx, about the anchor; without it the mesh stands upright and faces the viewer."""
    scale: float = 1.0
    """Metres per unit of the file."""
    anchor: Literal["origin", "center", "bottom"] = "origin"
    """The file's origin, the centre of its upright bounding box, or the middle of that box's underside."""
    up: Literal["y", "z"] = "y"
    """The file's axis that points up: y in glTF and most OBJ files (front +z), z in some OBJ files (front -y)."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (*self.position, *self.rotation, self.scale)):
            raise ValueError("position, rotation and scale must be finite")
        if self.scale <= 0:
            raise ValueError(f"scale: found {self.scale}, expected metres per unit of the file, above 0")
