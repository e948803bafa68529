"""Where rays enter convex solids, and which way the surface faces there.

Every solid is centred on its bounding box; x right, y down, z forward. Origins are (3,) and lie outside, directions
and points (3, P), float32. ``enter_*`` give (P,) the ray parameter of the first hit, inf where there is none;
``normal_*`` give (3, P) outward directions, not normalised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

CAPSULE_HALF = 0.8
"""Half length of a capsule's straight part; its radius is 1."""
_TINY = np.float32(1e-12)
_FAR = np.float32(np.inf)


def enter_planes(normals: Array, offsets: Array, origin: Array, directions: Array) -> Array:
    """Of a polyhedron: inside is ``normals @ p <= offsets``.

    With rate = normal . direction / gap, a plane that the origin lies beyond is crossed inwards at 1 / rate, the others
    outwards at 1 / rate; so the ray enters at the smallest rate of the former if the latter's are all smaller still.
    """
    gap = offsets - normals @ origin
    gap[gap == 0] = _TINY
    rates = (normals / gap[:, None]) @ directions
    beyond = gap < 0
    enters, leaves = rates[beyond].min(axis=0), rates[~beyond].max(axis=0)
    hit = (enters > 0) & (leaves <= enters)
    return np.where(hit, 1 / np.where(hit, enters, 1), _FAR)


def normal_planes(normals: Array, offsets: Array, points: Array) -> Array:
    """The normal of the outermost plane; on an edge the sum of both."""
    # argmax along the first axis would be ten times slower.
    beyond = normals @ points - offsets[:, None]
    return normals.T @ (beyond == beyond.max(axis=0)).astype(np.float32)


def _roots(a: Array, b: Array, c: float) -> tuple[Array, Array]:
    """Roots of a t^2 + 2 b t + c in rising order for a > 0; NaN where there are none."""
    square = b * b - a * c
    root = np.sqrt(np.where(square > 0, square, np.nan))
    return (-b - root) / a, (-b + root) / a


def enter_ball(origin: Array, directions: Array, centre_y: float = 0.0) -> Array:
    """Unit ball around (0, centre_y, 0)."""
    x, y, z = origin[0], origin[1] - centre_y, origin[2]
    dx, dy, dz = directions
    near, _ = _roots(dx * dx + dy * dy + dz * dz, dx * x + dy * y + dz * z, float(x * x + y * y + z * z - 1))
    return np.where(near > 0, near, _FAR)


def _slab_y(origin: Array, directions: Array, low: float, high: float) -> tuple[Array, Array]:
    dy = np.where(directions[1] == 0, _TINY, directions[1])
    at_low, at_high = (low - origin[1]) / dy, (high - origin[1]) / dy
    return np.minimum(at_low, at_high), np.maximum(at_low, at_high)


def _meet(near: Array, far: Array, slab: tuple[Array, Array]) -> Array:
    """First hit of two intervals' common part; NaN bounds count as a miss."""
    first, last = np.maximum(near, slab[0]), np.minimum(far, slab[1])
    return np.where((first <= last) & (first > 0), first, _FAR)


def enter_cylinder(origin: Array, directions: Array, half: float = 1.0) -> Array:
    """Radius 1 around y, |y| <= half."""
    dx, _, dz = directions
    x, z = origin[0], origin[2]
    a = np.maximum(dx * dx + dz * dz, _TINY)
    near, far = _roots(a, dx * x + dz * z, float(x * x + z * z - 1))
    return _meet(near, far, _slab_y(origin, directions, -half, half))


def enter_cone(origin: Array, directions: Array) -> Array:
    """Apex at y = -1, radius 1 at y = 1."""
    dx, dy, dz = directions
    x, y, z = origin[0], origin[1] + 1, origin[2]
    a = dx * dx + dz * dz - dy * dy / 4
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    near, far = _roots(a, dx * x + dz * z - dy * y / 4, float(x * x + z * z - y * y / 4))
    # Where a < 0 the ray leaves one nappe and enters the other; ours lies towards larger y.
    steep, down = a < 0, dy > 0
    first = np.where(steep, np.where(down, near, -_FAR), near)
    last = np.where(steep, np.where(down, _FAR, far), far)
    return _meet(first, last, _slab_y(origin, directions, -1, 1))


def enter_capsule(origin: Array, directions: Array) -> Array:
    """Radius 1, straight part |y| <= 0.8."""
    sides = enter_cylinder(origin, directions, CAPSULE_HALF)
    ends = np.minimum(enter_ball(origin, directions, -CAPSULE_HALF), enter_ball(origin, directions, CAPSULE_HALF))
    return np.minimum(sides, ends)


def enter_dome(origin: Array, directions: Array) -> Array:
    """The upper half of a unit ball around (0, 0.5, 0)."""
    x, y, z = origin[0], origin[1] - 0.5, origin[2]
    dx, dy, dz = directions
    near, far = _roots(dx * dx + dy * dy + dz * dz, dx * x + dy * y + dz * z, float(x * x + y * y + z * z - 1))
    return _meet(near, far, _slab_y(origin, directions, -2.0, 0.5))


def normal_cylinder(points: Array) -> Array:
    """Of the side, or of an end."""
    x, y, z = points
    side = (y * y <= x * x + z * z).astype(np.float32)
    return np.stack([x * side, y * (1 - side), z * side])


def normal_cone(points: Array) -> Array:
    """Of the side, or of the base."""
    x, y, z = points
    radius = np.sqrt(x * x + z * z) + _TINY
    side = (y - 1 <= radius - (y + 1) / 2).astype(np.float32)
    inverse = side / radius
    return np.stack([x * inverse, 1 - 1.5 * side, z * inverse])


def normal_capsule(points: Array) -> Array:
    """Away from the nearest point of its axis."""
    x, y, z = points
    return np.stack([x, y - np.clip(y, -CAPSULE_HALF, CAPSULE_HALF), z])


def normal_dome(points: Array) -> Array:
    """Of the ball, or of the flat base."""
    x, y, z = points
    down = y - 0.5
    side = (down <= np.sqrt(x * x + down * down + z * z) - 1).astype(np.float32)
    return np.stack([x * side, down * side + (1 - side), z * side])
