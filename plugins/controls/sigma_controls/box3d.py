"""``box3d``: an oriented box in space, its silhouette and the depth of its visible faces.

Each pixel's ray is intersected with the box's three slabs (pairs of parallel planes) in the box's own axes, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sigma_controls.config import Box3DConfig
from sigma_controls.geometry import Box3DGeometry
from sigma_framework import Box3D, Canvas, ControlLayer, SubjectAnnotation, draw_dilation

NEAREST_METRES = 1e-3
"""Surfaces nearer to the camera's plane than this are not seen."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Box3DControl:
    """The region is the box's silhouette, the depth that of the first surface each ray meets (section 3.4)."""

    config: Box3DConfig = field(default_factory=Box3DConfig)
    """Augmentation."""

    def encode(self, geometry: Box3DGeometry, canvas: Canvas) -> ControlLayer:
        """Silhouette and depth (metres along z).

        With the camera inside the box every ray meets a face from within.

        Raises:
            ValueError: the box is behind the camera, outside the image, or between pixel centres.
        """
        corners = box_corners(geometry.box)
        if corners[:, 2].max() <= NEAREST_METRES:
            raise ValueError(f"the box is behind the camera (z up to {corners[:, 2].max():.2f} m); z points forward")
        rows, columns = _window(corners, canvas)
        region = np.zeros(canvas.size_hw, dtype=np.bool_)
        depth = np.zeros(canvas.size_hw, dtype=np.float32)
        if rows.stop > rows.start and columns.stop > columns.start:
            hit, z = intersect_rays(geometry.box, canvas, rows, columns)
            region[rows, columns] = hit
            depth[rows, columns] = np.where(hit, z, 0.0)
        if not region.any():
            raise ValueError(
                f"the box is outside the image of {canvas.width}x{canvas.height} pixels, or between pixels"
            )
        return ControlLayer(region=region, depth=depth, depth_kind="metric")

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> Box3DGeometry:
        """The annotated box, each extent jittered and grown by a random margin."""
        if subject.box3d is None:
            raise ValueError("box3d: the annotation has no 3D box")
        box, jitter = subject.box3d, self.config.aspect_jitter
        pixels = draw_dilation(rng, canvas.size_hw, self.config.dilate_fraction)
        margin = 2 * pixels * max(box.center[2], 0.0) / canvas.camera.fy
        factors = 1 + rng.uniform(-jitter, jitter, size=3)
        size = [float(extent * factor + margin) for extent, factor in zip(box.size, factors, strict=True)]
        return Box3DGeometry(center=box.center, size=(size[0], size[1], size[2]), rotation=box.rotation)


def rotation_matrix(degrees: tuple[float, float, float]) -> _Array:
    """(3, 3) R = Rz Ry Rx: the box's axes are its columns, in camera coordinates."""
    (cx, sx), (cy, sy), (cz, sz) = ((math.cos(a), math.sin(a)) for a in map(math.radians, degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], dtype=np.float64)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=np.float64)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]], dtype=np.float64)
    return about_z @ about_y @ about_x


def box_corners(box: Box3D) -> _Array:
    """(8, 3) corners in camera coordinates, metres."""
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return np.asarray((signs * box.size) @ rotation_matrix(box.rotation).T + np.asarray(box.center))


def intersect_rays(box: Box3D, canvas: Canvas, rows: slice, columns: slice) -> tuple[NDArray[np.bool_], _Array]:
    """Which rays of a window of pixels meet the box, and z where they first do.

    A ray is ``z * (x, y, 1)`` with x = (column + 0.5 - cx) / fx and y likewise, so its parameter is z itself.

    Returns:
        (h, w) bool and (h, w) metres (meaningless without a hit).
    """
    camera = canvas.camera
    x = (np.arange(columns.start, columns.stop) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(rows.start, rows.stop) + 0.5 - camera.cy) / camera.fy
    axes = rotation_matrix(box.rotation)
    enter = np.full((y.size, x.size), -np.inf)
    leave = np.full((y.size, x.size), np.inf)
    for axis, half in zip(axes.T, np.asarray(box.size, dtype=np.float64) / 2, strict=True):
        centre = float(axis @ np.asarray(box.center))
        slope = (axis[0] * x)[None, :] + (axis[1] * y + axis[2])[:, None]  # the ray along this axis, per metre of z
        slope[slope == 0] = 1e-300  # parallel to the slab: it is met at infinity, or never
        first, second = (centre - half) / slope, (centre + half) / slope
        np.maximum(enter, np.minimum(first, second), out=enter)
        np.minimum(leave, np.maximum(first, second), out=leave)
    z = np.where(enter > NEAREST_METRES, enter, leave)  # inside the box the first surface in front is where it leaves
    return (enter <= leave) & (leave > NEAREST_METRES), z


def _window(corners: _Array, canvas: Canvas) -> tuple[slice, slice]:
    """Rows and columns of pixels that the box can cover: the box around the projected corners, clipped to the image."""
    if corners[:, 2].min() <= NEAREST_METRES:  # it reaches behind the camera: corners do not bound its picture
        return slice(0, canvas.height), slice(0, canvas.width)
    camera = canvas.camera
    u = camera.fx * corners[:, 0] / corners[:, 2] + camera.cx
    v = camera.fy * corners[:, 1] / corners[:, 2] + camera.cy
    rows = np.clip([math.floor(v.min()), math.ceil(v.max())], 0, canvas.height)
    columns = np.clip([math.floor(u.min()), math.ceil(u.max())], 0, canvas.width)
    return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))
