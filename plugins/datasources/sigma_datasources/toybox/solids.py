"""The solids of the world: all convex, each in its own frame, centred on its bounding box."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.intersection import (
    CAPSULE_HALF,
    enter_ball,
    enter_capsule,
    enter_cone,
    enter_cylinder,
    enter_dome,
    enter_planes,
    normal_capsule,
    normal_cone,
    normal_cylinder,
    normal_dome,
    normal_planes,
)

Array = NDArray[np.float32]
Stretch = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Solid:
    """One kind of solid."""

    name: str
    """What captions call it."""
    extents: tuple[float, float, float]
    """Half sizes of the bounding box."""
    cloud: Array
    """(V, 3) points whose convex hull encloses the solid closely (exactly for polyhedra)."""
    enter: Callable[[Array, Array], Array]
    """(origin, directions) -> (P,) ray parameter of the first hit from outside, inf where there is none."""
    normal: Callable[[Array], Array]
    """Surface points -> outward directions, not normalised."""
    wrap: Literal["box", "round"]
    """How textures lie on it: face by face, or around its y axis."""
    stretch: Stretch
    """(low, high) factors of its proportions along x, y, z."""
    flat_ends: bool = False
    """Whether a round solid has flat ends, which textures cover on their own."""


_RING = 12
_RING_OUTER = 1 / math.cos(math.pi / _RING)
"""A ring of points at this radius encloses the unit circle."""


def _ring(radius: float, y: float) -> list[tuple[float, float, float]]:
    angles = [2 * math.pi * k / _RING for k in range(_RING)]
    return [(radius * _RING_OUTER * math.cos(a), y, radius * _RING_OUTER * math.sin(a)) for a in angles]


def _cap_rings(y: float, side: int) -> list[tuple[float, float, float]]:
    """Rings around a half ball with its flat side at ``y``: its profile's tangents at 0, 45 and 90 degrees."""
    edge = math.tan(math.pi / 8)
    return [*_ring(1, y + side * edge), *_ring(edge, y + side)]


def _cloud(points: Sequence[tuple[float, float, float]]) -> Array:
    return np.asarray(points, np.float32)


def _polyhedron(
    name: str,
    vertices: Sequence[tuple[float, float, float]],
    faces: Sequence[tuple[float, float, float, float]],
    stretch: Stretch,
) -> Solid:
    """``faces`` are (nx, ny, nz, offset), inside is n . p <= offset."""
    planes = np.asarray(faces, np.float64)
    planes = (planes / np.linalg.norm(planes[:, :3], axis=1, keepdims=True)).astype(np.float32)
    normals, offsets = planes[:, :3].copy(), planes[:, 3].copy()
    extents = np.abs(np.asarray(vertices)).max(axis=0)
    return Solid(
        name=name,
        extents=(float(extents[0]), float(extents[1]), float(extents[2])),
        cloud=_cloud(vertices),
        enter=partial(enter_planes, normals, offsets),
        normal=partial(normal_planes, normals, offsets),
        wrap="box",
        stretch=stretch,
    )


def _signs(*halves: float) -> list[tuple[float, float, float]]:
    x, y, z = halves
    return [(i * x, j * y, k * z) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]


_SAME = (1.0, 1.0)
_HEXAGON = [(math.cos(math.pi * k / 3), math.sin(math.pi * k / 3)) for k in range(6)]
_HEX_SIDE = math.sqrt(3) / 2
_HEXAGON_SIDES = [
    (math.cos(angle), 0.0, math.sin(angle), _HEX_SIDE) for angle in (math.pi * (2 * k + 1) / 6 for k in range(6))
]
_TOP = 0.5
"""Half side of a frustum's top."""
_FRUSTUM_SIDES = [(x, -(1 - _TOP) / 2, z, (1 + _TOP) / 2) for x, z in ((1, 0), (-1, 0), (0, 1), (0, -1))]

_SOLIDS = (
    _polyhedron(
        "cube",
        _signs(1, 1, 1),
        [(1, 0, 0, 1), (-1, 0, 0, 1), (0, 1, 0, 1), (0, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1)],
        ((0.9, 1.1), (0.9, 1.1), (0.9, 1.1)),
    ),
    Solid(
        name="sphere",
        extents=(1, 1, 1),
        cloud=_cloud([*_cap_rings(0, -1), *_cap_rings(0, 1)]),
        enter=enter_ball,
        normal=np.asarray,
        wrap="round",
        stretch=(_SAME, _SAME, _SAME),
    ),
    Solid(
        name="cylinder",
        extents=(1, 1, 1),
        cloud=_cloud([*_ring(1, -1), *_ring(1, 1)]),
        enter=enter_cylinder,
        normal=normal_cylinder,
        wrap="round",
        flat_ends=True,
        stretch=(_SAME, (0.9, 1.4), _SAME),
    ),
    Solid(
        name="cone",
        extents=(1, 1, 1),
        cloud=_cloud([*_ring(1, 1), (0, -1, 0)]),
        enter=enter_cone,
        normal=normal_cone,
        wrap="round",
        flat_ends=True,
        stretch=(_SAME, (1.1, 1.45), _SAME),
    ),
    _polyhedron(
        "pyramid",
        [(0, -1, 0), (1, 1, 1), (-1, 1, 1), (1, 1, -1), (-1, 1, -1)],
        [(0, 1, 0, 1), (2, -1, 0, 1), (-2, -1, 0, 1), (0, -1, 2, 1), (0, -1, -2, 1)],
        (_SAME, (0.9, 1.25), _SAME),
    ),
    _polyhedron(
        "prism",
        [(x, y, z) for z in (-1, 1) for x, y in ((0, -1), (1, 1), (-1, 1))],
        [(0, 1, 0, 1), (2, -1, 0, 1), (-2, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1)],
        (_SAME, (0.85, 1.0), (1.1, 1.5)),
    ),
    _polyhedron(
        "octahedron",
        [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)],
        [(*normal, 1) for normal in _signs(1, 1, 1)],
        (_SAME, (1.15, 1.4), _SAME),
    ),
    Solid(
        name="capsule",
        extents=(1, 1 + CAPSULE_HALF, 1),
        cloud=_cloud([*_cap_rings(-CAPSULE_HALF, -1), *_cap_rings(CAPSULE_HALF, 1)]),
        enter=enter_capsule,
        normal=normal_capsule,
        wrap="round",
        stretch=(_SAME, _SAME, _SAME),
    ),
    _polyhedron(
        "hexagon",
        [(x, y, z) for y in (-1, 1) for x, z in _HEXAGON],
        [(0, 1, 0, 1), (0, -1, 0, 1), *_HEXAGON_SIDES],
        (_SAME, (0.6, 1.1), _SAME),
    ),
    _polyhedron(
        "frustum",
        [(x, 1, z) for x in (-1, 1) for z in (-1, 1)] + [(x, -1, z) for x in (-_TOP, _TOP) for z in (-_TOP, _TOP)],
        [(0, 1, 0, 1), (0, -1, 0, 1), *_FRUSTUM_SIDES],
        (_SAME, (0.85, 1.15), _SAME),
    ),
    _polyhedron(
        "wedge",
        [(x, y, z) for z in (-1, 1) for x, y in ((-1, 1), (1, 1), (1, -1))],
        [(0, 1, 0, 1), (1, 0, 0, 1), (-1, -1, 0, 0), (0, 0, 1, 1), (0, 0, -1, 1)],
        ((1.1, 1.4), (0.9, 1.1), (0.8, 1.0)),
    ),
    Solid(
        name="dome",
        extents=(1, 0.5, 1),
        cloud=_cloud([*_ring(1, 0.5), *_cap_rings(0.5, -1)]),
        enter=enter_dome,
        normal=normal_dome,
        wrap="round",
        flat_ends=True,
        stretch=(_SAME, (1.0, 1.3), _SAME),
    ),
)
SOLIDS: dict[str, Solid] = {solid.name: solid for solid in _SOLIDS}
"""All solids by name, held-out ones too."""
