"""Oriented boxes of point clouds: smallest, along principal axes, or standing on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.classical.hidden_side import Sight, farthest_centre

Array = NDArray[np.float64]

_PLANES = 80
"""Random planes tried for the ground."""
_STEEPEST = 0.3
"""Cosine between the ground's normal and the picture's upwards direction, at least."""
_GROUND_SHARE = 0.25
"""Of the points outside the subjects that a plane must hold to be the ground."""
_ROUND = 1.2
"""Largest over smallest rectangle around a footprint without corners of its own; 1 for a disc, 1.08 for a hexagon, 2
for a square."""
_ROUND_TURN = math.radians(30)
"""Against the line of sight. Nothing tells how the box of a round footprint is turned; its width in the picture is
cos + sin of this angle, and half of all turns give one between 1.31 and 1.41 sides: 30 degrees is their middle."""
_REACH = 0.5
"""A subject whose lowest point is higher above the ground than this share of its height does not stand on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A plane: ``down @ point == height`` on it."""

    down: Array
    """(3,) unit vector, away from what stands on it."""
    height: float
    """Metres from the camera along ``down``."""


@dataclass(frozen=True, slots=True, eq=False)
class OrientedBox:
    """Centre, full extents and axes."""

    center: Array
    """(3,) metres."""
    size: Array
    """(3,) metres along the axes."""
    axes: Array
    """(3, 3) a rotation; columns are the axes."""

    def grown(self, margin: float) -> OrientedBox:
        """Larger by so much at every side."""
        return OrientedBox(self.center, self.size + 2 * margin, self.axes)

    def plain(self) -> dict[str, list[float]]:
        """As JSON; rotation in degrees (rx, ry, rz) with R = Rz Ry Rx."""
        axes = self.axes
        ry = math.asin(min(1.0, max(-1.0, -float(axes[2, 0]))))
        rx = math.atan2(float(axes[2, 1]), float(axes[2, 2]))
        rz = math.atan2(float(axes[1, 0]), float(axes[0, 0]))
        rotation = [math.degrees(angle) for angle in (rx, ry, rz)]
        return {"center": self.center.tolist(), "size": self.size.tolist(), "rotation": rotation}


def without_outliers(points: Array, neighbours: int, isolation: float) -> Array:
    """Points whose mean distance to their neighbours is not far above the usual.

    The usual is the median, not mean and deviation as in most point cloud tools: where a surface turns away its points
    lie two to four times as far apart, and they say the most about how deep it is.
    """
    from scipy.spatial import cKDTree

    if len(points) <= neighbours + 1:
        return points
    distances = cKDTree(points).query(points, k=neighbours + 1)[0][:, 1:].mean(axis=1)
    kept: Array = points[distances <= isolation * np.median(distances)]
    return kept


def minimal_box(points: Array) -> OrientedBox | None:
    """The smallest box of any turn, by trimesh; None for points in a plane."""
    import trimesh

    try:
        to_box, size = trimesh.bounds.oriented_bounds(points)
    except Exception:  # qhull's own error for flat clouds
        return None
    from_box = np.linalg.inv(to_box)
    return OrientedBox(from_box[:3, 3], np.asarray(size, np.float64), _proper(from_box[:3, :3]))


def principal_box(points: Array) -> OrientedBox:
    """Along the principal axes of the points; coarse, and what Open3D's ``get_oriented_bounding_box`` does."""
    middle = points.mean(axis=0)
    axes = _proper(np.linalg.svd(points - middle, full_matrices=False)[2].T)
    return _box_along(points, axes)


def upright_box(points: Array, ground: Ground, sight: Sight, margin: float) -> OrientedBox | None:
    """Stands on the ground; the side that cannot be seen is the visible one turned by 180 degrees.

    Args:
        points: (P, 3) of the visible surface, metres.
        ground: on which it stands.
        sight: what the picture shows, which says how far back the hidden side may lie.
        margin: metres between the outermost points and the surface's own edge.
    """
    from scipy.spatial import ConvexHull, QhullError

    down = ground.down
    ahead = np.array([0.0, 0.0, 1.0]) - down * down[2]
    if np.linalg.norm(ahead) < 1e-6:
        return None
    ahead /= np.linalg.norm(ahead)
    right = np.cross(down, ahead)
    plan = np.stack([right, ahead])
    flat, heights = points @ plan.T, points @ down
    centre = farthest_centre(flat, heights, plan, down, sight)
    whole = np.concatenate([flat, 2 * centre - flat])
    try:
        hull = whole[ConvexHull(whole).vertices]
    except QhullError:
        return None
    turn = _turn_of(hull, float(np.arctan2(centre[0], centre[1])))
    low, high = (hull @ turn.T).min(axis=0) - margin, (hull @ turn.T).max(axis=0) + margin
    top, bottom = float(heights.min()) - margin, float(heights.max())
    # What hides its foot hides nothing of where it stands.
    bottom = ground.height if 0 <= ground.height - bottom < _REACH * (bottom - top) else bottom + margin
    u, v = turn[0] @ plan, turn[1] @ plan
    middle = (low + high) / 2
    center = u * middle[0] + v * middle[1] + down * (top + bottom) / 2
    size = np.array([high[0] - low[0], bottom - top, high[1] - low[1]])
    return OrientedBox(center, size, _proper(np.stack([u, down, v], axis=1)))


def find_ground(points: Array, masks: NDArray[np.bool_]) -> Ground | None:
    """The plane on which subjects stand, from the depth outside their masks; None when there is none to be seen.

    Of random planes through three points the one that holds most; the same planes whenever it is asked.
    """
    outside = points[(points[..., 2] > 0) & ~masks.any(axis=0)]
    if len(outside) < 30:
        return None
    rng = np.random.default_rng(0)
    if len(outside) > 4000:
        outside = outside[rng.choice(len(outside), 4000, replace=False)]
    best: tuple[int, Ground | None] = (0, None)
    for _ in range(_PLANES):
        a, b, c = outside[rng.choice(len(outside), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-9:
            continue
        down = normal / length * (1 if normal[1] > 0 else -1)
        if down[1] < _STEEPEST:
            continue
        near = np.abs(outside @ down - float(down @ a)) < 0.01 * outside[:, 2]
        if np.count_nonzero(near) > best[0]:
            best = (int(np.count_nonzero(near)), _plane_through(outside[near]))
    return best[1] if best[0] >= _GROUND_SHARE * len(outside) else None


def _plane_through(points: Array) -> Ground:
    middle = points.mean(axis=0)
    down = np.linalg.svd(points - middle, full_matrices=False)[2][2]
    down = down if down[1] > 0 else -down
    return Ground(down, float(down @ middle))


def _turn_of(hull: Array, bearing: float) -> Array:
    """(2, 2) rows are the axes of the smallest rectangle; of a footprint that looks alike in all turns, the usual one.

    Args:
        hull: (V, 2) corners of the footprint.
        bearing: of its centre, radians from straight ahead.
    """
    edges = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.round(np.arctan2(edges[:, 1], edges[:, 0]) % (math.pi / 2), 6))
    turns = np.stack([_rotation(angle) for angle in angles])
    spans = np.einsum("tij,vj->tvi", turns, hull)
    areas = (spans.max(axis=1) - spans.min(axis=1)).prod(axis=1)
    if areas.max() < _ROUND * areas.min():
        return _rotation(_ROUND_TURN - bearing)
    return np.asarray(turns[int(areas.argmin())])


def _rotation(angle: float) -> Array:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def _box_along(points: Array, axes: Array) -> OrientedBox:
    along = points @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    return OrientedBox(axes @ ((low + high) / 2), high - low, axes)


def _proper(axes: Array) -> Array:
    """A rotation with the same axes: one of them is turned round where they are left-handed."""
    if np.linalg.det(axes) > 0:
        return np.asarray(axes, np.float64)
    return np.asarray(axes * np.array([1, 1, -1]), np.float64)
