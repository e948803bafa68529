"""Triangles to depth per pixel: a z-buffer in NumPy, exact at pixel centres, without clipping.

A pixel's ray is ``z * r`` with ``r = (x, y, 1)``. It meets triangle A, B, C where the three products ``r . (A x B)``,
``r . (B x C)``, ``r . (C x A)`` have the sign of ``r . n``, n the triangle's normal, at ``z = n . A / n . r``. That
holds also when a corner lies behind the camera (homogeneous rasterisation; Olano and Greer 1997). Neighbours share
corners, and the product of a shared edge only changes its sign, so no ray slips between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sigma_framework import Camera, Canvas

NEAREST_METRES = 1e-3
"""Surfaces nearer to the camera's plane than this are not seen; as for ``box3d``."""
MAX_TESTS = 300_000_000
"""Most pixels that all triangles' windows may have together: about half a minute. A usual mesh needs a thousandth."""
_BLOCK = 2**19
"""Ray tests at once: bounds the memory."""
_SLACK = 1e-6
"""Pixels by which a triangle's window is widened: rounding loses no centre that lies on an edge."""

_Array = NDArray[np.float64]
_Whole = NDArray[np.int64]


def draw_triangles(corners: _Array, canvas: Canvas) -> _Array:
    """The nearest z, metres, that each pixel's ray meets.

    Args:
        corners: (F, 3, 3) triangles' corners in camera coordinates, metres; seen from both sides.
        canvas: size and camera.

    Returns:
        (H, W) metres, infinity where no triangle is.

    Raises:
        ValueError: the triangles cover the picture so often that drawing would take minutes.
    """
    corners = corners[(corners[:, :, 2] > NEAREST_METRES).any(axis=1)]
    triangles, windows = _windows(corners, canvas)
    if (tests := int(_areas(windows).sum())) > MAX_TESTS:
        raise ValueError(
            f"the mesh covers the image about {tests // (canvas.width * canvas.height)} times; simplify it"
        )
    depth = np.full(canvas.height * canvas.width, np.inf)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    offsets = (normals * corners[:, 0]).sum(axis=1)
    edges = np.stack([_cross(corners[:, k], corners[:, (k + 1) % 3]) for k in range(3)], axis=1)
    low, high = corners[:, :, 2].min(axis=1), corners[:, :, 2].max(axis=1)
    for which, rows, columns in _rays(triangles, windows):
        x = np.asarray((columns + 0.5 - canvas.camera.cx) / canvas.camera.fx, np.float64)
        y = np.asarray((rows + 0.5 - canvas.camera.cy) / canvas.camera.fy, np.float64)
        facing = _along(normals[which], x, y)
        sign = np.sign(facing)
        hit = sign != 0
        for k in range(3):
            hit &= _along(edges[which, k], x, y) * sign >= 0
        met = which[hit]
        z = np.clip(offsets[met] / facing[hit], low[met], high[met])  # a grazing ray's quotient may stray
        seen = z > NEAREST_METRES
        pixels = rows[hit] * canvas.width + columns[hit]
        np.minimum.at(depth, pixels[seen], z[seen])
    return depth.reshape(canvas.size_hw)


def _cross(a: _Array, b: _Array) -> _Array:
    """(F, 3) a x b; b x a is its exact negative."""
    return np.stack([a[:, i] * b[:, j] - a[:, j] * b[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], axis=1)


def _along(vectors: _Array, x: _Array, y: _Array) -> _Array:
    """(n,) product of each vector with its ray (x, y, 1), in one order of additions."""
    return vectors[:, 0] * x + vectors[:, 1] * y + vectors[:, 2]


def _windows(corners: _Array, canvas: Canvas) -> tuple[_Whole, _Whole]:
    """Which triangles can cover a pixel centre, and (n, 4) left, top, right, bottom of where.

    A triangle that reaches behind the camera is bounded by its part in front. High windows are cut into strips, so that
    none has more than ``_BLOCK`` pixels; their triangles appear several times.
    """
    u, v = _bounds(corners, canvas.camera)
    edges = [(u[:, 0], canvas.width), (v[:, 0], canvas.height), (u[:, 1], canvas.width), (v[:, 1], canvas.height)]
    sides = [
        np.clip(np.ceil(value - 0.5 - _SLACK) if k < 2 else np.floor(value - 0.5 + _SLACK) + 1, 0, length)
        for k, (value, length) in enumerate(edges)
    ]
    windows = np.stack(sides, axis=1).astype(np.int64)
    triangles = np.flatnonzero(_areas(windows) > 0)
    windows = windows[triangles]
    height = np.maximum(1, _BLOCK // np.maximum(1, windows[:, 2] - windows[:, 0]))
    strips = -(-(windows[:, 3] - windows[:, 1]) // height)
    number = np.arange(int(strips.sum())) - np.repeat(np.cumsum(strips) - strips, strips)
    triangles, windows, height = (
        np.repeat(triangles, strips),
        np.repeat(windows, strips, axis=0),
        np.repeat(height, strips),
    )
    windows[:, 1] += number * height
    windows[:, 3] = np.minimum(windows[:, 3], windows[:, 1] + height)
    return triangles, windows


def _bounds(corners: _Array, camera: Camera) -> tuple[_Array, _Array]:
    """(F, 2) least and largest u, and v, in pixels, of each triangle's part beyond the nearest plane."""
    following = np.roll(corners, -1, axis=1)
    z, next_z = corners[:, :, 2], following[:, :, 2]
    in_front = z > NEAREST_METRES
    crosses = in_front != (next_z > NEAREST_METRES)
    share = np.divide(NEAREST_METRES - z, next_z - z, out=np.zeros_like(z), where=crosses)
    cut = corners + share[:, :, None] * (following - corners)
    cut[:, :, 2] = NEAREST_METRES
    points = np.concatenate([corners, cut], axis=1)
    counts = np.concatenate([in_front, crosses], axis=1)
    depth = np.where(counts, points[:, :, 2], 1.0)
    u = camera.fx * points[:, :, 0] / depth + camera.cx
    v = camera.fy * points[:, :, 1] / depth + camera.cy
    ranges = [
        np.stack([np.where(counts, w, np.inf).min(axis=1), np.where(counts, w, -np.inf).max(axis=1)], axis=1)
        for w in (u, v)
    ]
    return ranges[0], ranges[1]


def _areas(windows: _Whole) -> _Whole:
    return np.maximum(windows[:, 2] - windows[:, 0], 0) * np.maximum(windows[:, 3] - windows[:, 1], 0)


def _rays(triangles: _Whole, windows: _Whole) -> Iterator[tuple[_Whole, _Whole, _Whole]]:
    """Triangle, row and column of every pixel of every window, at most about ``_BLOCK`` at once."""
    areas = _areas(windows)
    block = (np.cumsum(areas) - 1) // _BLOCK
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    for first, last in pairwise([*starts, len(areas)]):
        counts = areas[first:last]
        window = np.repeat(np.arange(first, last), counts)
        place = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        width = windows[window, 2] - windows[window, 0]
        rows = windows[window, 1] + place // width
        columns = windows[window, 0] + place % width
        yield triangles[window], rows, columns
