"""Pictures of annotations for people: depth as grey, boxes drawn in 2D and 3D, and pictures as part of a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sigma_framework.conditioning.layout_picture import subject_colour
from sigma_framework.types import Box3D, Camera, FloatMap, RgbImage

_NEAR = 0.02
"""Metres: an edge is drawn from here on."""
SHOWN_SIDE = 256
"""Longer side of a picture on a page, pixels."""
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
"""Pairs of corners that differ along one axis."""


def draw_boxes(picture: RgbImage, boxes: Sequence[Box3D | None], flat: Sequence[Any], camera: Camera) -> RgbImage:
    """The picture with every 2D box (thin) and every oriented 3D box (its twelve edges) in the subject's colour.

    Args:
        picture: (H, W, 3) uint8.
        boxes: oriented boxes in camera coordinates, or None.
        flat: x0, y0, x1, y1 in pixels.
        camera: of the picture.
    """
    scale = max(1, round(SHOWN_SIDE / max(picture.shape[:2])))
    height, width = picture.shape[:2]
    image = Image.fromarray(picture).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    drawing = ImageDraw.Draw(image)
    seen = camera.scaled(scale, scale)
    for number, (box, (x0, y0, x1, y1)) in enumerate(zip(boxes, flat, strict=True)):
        colour = subject_colour(number)
        drawing.rectangle((x0 * scale, y0 * scale, x1 * scale - 1, y1 * scale - 1), outline=colour)
        if box is not None:
            for start, end in _edges(box_corners(box)):
                drawing.line([_project(start, seen), _project(end, seen)], fill=colour, width=2)
    return np.asarray(image)


def box_corners(box: Box3D) -> NDArray[np.float64]:
    """(8, 3) corners in camera coordinates; bit 0, 1, 2 of a corner's number is its side along x, y, z."""
    rx, ry, rz = (math.radians(angle) for angle in box.rotation)
    cx, sx, cy, sy, cz, sz = (f(a) for a in (rx, ry, rz) for f in (math.cos, math.sin))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    signs = np.array([[1 if corner >> axis & 1 else -1 for axis in range(3)] for corner in range(8)])
    turned: NDArray[np.float64] = (signs * np.array(box.size) / 2) @ (about_z @ about_y @ about_x).T
    turned += np.array(box.center)
    return turned


def depth_picture(depth: FloatMap | None, size_hw: tuple[int, int]) -> RgbImage:
    """Near is bright; unknown is dark red."""
    picture = np.zeros((*size_hw, 3), np.uint8)
    picture[:] = (64, 0, 0)
    if depth is None or not (depth > 0).any():
        return picture
    known = depth > 0
    inverse = 1 / depth[known]
    span = max(float(inverse.max() - inverse.min()), 1e-9)
    picture[known] = (30 + 225 * (inverse - inverse.min()) / span).astype(np.uint8)[:, None]
    return picture


def as_image_tag(picture: RgbImage, side: int = SHOWN_SIDE) -> str:
    """A picture as part of a page, its longer side ``side`` pixels there."""
    height, width = picture.shape[:2]
    image, scale = Image.fromarray(picture), side / max(height, width)
    if scale < 1:
        image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    shown = f"width='{round(width * scale)}' height='{round(height * scale)}'"
    return f"<img {shown} src='data:image/png;base64,{source}'>"


def _edges(corners: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The twelve edges, cut where they pass behind the camera."""
    found = []
    for a, b in _EDGES:
        start, end = corners[a], corners[b]
        if start[2] < end[2]:
            start, end = end, start
        if start[2] <= _NEAR:
            continue
        if end[2] < _NEAR:
            end = start + (end - start) * (start[2] - _NEAR) / (start[2] - end[2])
        found.append((start, end))
    return found


def _project(point: NDArray[np.float64], camera: Camera) -> tuple[float, float]:
    x, y, z = point.tolist()
    return camera.cx + camera.fx * x / z, camera.cy + camera.fy * y / z
