"""Where subjects stand: a camera over the ground, places in the picture, and the poses that project there.

Ground coordinates are right, up, ahead, with the camera above the origin. Camera coordinates are x right, y down,
z forward, metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.looks import Look
from sigma_datasources.toybox.solids import SOLIDS
from sigma_framework import Box3D, Camera

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]

SIZE_RANGES = (
    (0.46, 0.69), (0.39, 0.58), (0.34, 0.51), (0.305, 0.45), (0.28, 0.41),
    (0.255, 0.37), (0.24, 0.34), (0.225, 0.315), (0.212, 0.295), (0.205, 0.278),
)  # fmt: skip
"""Longer side of a subject's silhouette as a share of the picture's shorter side, for 1 to 10 subjects."""
_MARGIN = 0.02
"""Free border of the picture, as a share of its shorter side."""
_TRIALS = 14
_PUSHES = 12
_SOLVER_STEPS = 5
_FARTHEST = 7.5
"""No subject stands farther than this many camera heights ahead."""


@dataclass(frozen=True, slots=True)
class View:
    """A camera that looks down on the ground, without roll."""

    camera: Camera
    """Pixels."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    pitch: float
    """How far it looks down, radians."""
    altitude: float
    """Height above the ground, metres."""

    def ground_to_camera(self) -> Array64:
        """(3, 3): columns are right, down and ahead of the ground in camera coordinates, i.e. Rx(pitch)."""
        cos, sin = math.cos(self.pitch), math.sin(self.pitch)
        return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])

    def ground_ahead(self, row: float) -> float:
        """Distance ahead of the ground point at this row of the picture; inf at and above the horizon."""
        slope = (row - self.camera.cy) / self.camera.fy
        sink = slope * math.cos(self.pitch) + math.sin(self.pitch)
        if sink <= 1e-6:
            return math.inf
        return self.altitude / sink * (math.cos(self.pitch) - slope * math.sin(self.pitch))

    def row_of_ground(self, ahead: float) -> float:
        """Row of the ground at this distance ahead; the inverse of ``ground_ahead``."""
        cos, sin = math.cos(self.pitch), math.sin(self.pitch)
        depth, down = ahead * cos + self.altitude * sin, self.altitude * cos - ahead * sin
        return self.camera.cy + self.camera.fy * down / depth


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """How one solid stands in a scene."""

    centre: Array64
    """(3,) camera coordinates."""
    rotation: Array64
    """(3, 3) the solid's own axes as columns, camera coordinates."""
    half_sizes: Array64
    """(3,) metres along its own axes."""
    scale: float
    """Metres per unit of its look."""
    foot: tuple[float, float]
    """Ground point below the centre: right, ahead; metres."""
    yaw: float
    """Radians about the vertical."""
    bounds: tuple[float, float, float, float]
    """x0, y0, x1, y1 of a hull around its silhouette, pixels."""

    def box3d(self) -> Box3D:
        """The box along the solid's own axes."""
        x, y, z = self.centre.tolist()
        width, height, length = (2 * self.half_sizes).tolist()
        return Box3D(center=(x, y, z), size=(width, height, length), rotation=euler_degrees(self.rotation))


def euler_degrees(rotation: Array64) -> tuple[float, float, float]:
    """(rx, ry, rz) with R = Rz Ry Rx; away from ry = +-90, which a standing solid never reaches."""
    ry = math.asin(min(1.0, max(-1.0, -float(rotation[2, 0]))))
    rx = math.atan2(float(rotation[2, 1]), float(rotation[2, 2]))
    rz = math.atan2(float(rotation[1, 0]), float(rotation[0, 0]))
    return math.degrees(rx), math.degrees(ry), math.degrees(rz)


def draw_view(rng: np.random.Generator, count: int, width: int, height: int) -> View:
    """A camera for ``count`` subjects: the more there are, the steeper it looks."""
    fov_y = rng.uniform(35, 55)
    pitch = math.radians(rng.uniform(15 + count, 30 + 1.1 * count))
    return View(Camera.from_fov_y(fov_y, width, height), width, height, pitch, rng.uniform(0.8, 2.0))


def clouds_of(looks: Sequence[Look]) -> Array64:
    """(N, V, 3) enclosing points of all looks, own axes, unit scale; short clouds repeat a point."""
    longest = max(len(SOLIDS[look.solid].cloud) for look in looks)
    clouds = np.empty((len(looks), longest, 3))
    for cloud, look in zip(clouds, looks, strict=True):
        points = SOLIDS[look.solid].cloud * np.asarray(look.proportions)
        cloud[: len(points)] = points
        cloud[len(points) :] = points[0]
    return clouds


def arrange(rng: np.random.Generator, looks: Sequence[Look], view: View, shrink: float) -> tuple[Pose, ...] | None:
    """Poses spread over the picture, or None when one does not come to lie in the frame.

    Args:
        rng: decides places, sizes and yaws.
        looks: the subjects.
        view: the camera.
        shrink: factor of the usual size, at most 1.
    """
    count = len(looks)
    side = min(view.width, view.height)
    low, high = SIZE_RANGES[count - 1]
    yaws = rng.uniform(0, 2 * math.pi, count)
    turned = _turned(clouds_of(looks), yaws)
    half_heights = np.array([look.half_sizes[1] for look in looks])
    sizes = rng.uniform(low, high, count) * side * shrink
    boxes = sizes[:, None] * _aspects(turned, half_heights, view)
    centres = _spread(rng, boxes, view)
    solved = _solve(turned, half_heights, view, centres, sizes)
    if solved is None:
        return None
    feet, scales, bounds = solved
    return tuple(
        _pose(look, view, foot, scale=float(scale), yaw=float(yaw), bounds=box)
        for look, foot, scale, yaw, box in zip(looks, feet, scales, yaws, bounds, strict=True)
    )


def _turned(clouds: Array64, yaws: Array64) -> Array64:
    """Clouds turned about the vertical: right, down, ahead."""
    cos, sin = np.cos(yaws)[:, None], np.sin(yaws)[:, None]
    x, y, z = clouds[..., 0], clouds[..., 1], clouds[..., 2]
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def _project(turned: Array64, half_heights: Array64, view: View, feet: Array64, scales: Array64) -> Array64:
    """(N, 4) x0, y0, x1, y1 in pixels of standing clouds."""
    cos, sin = math.cos(view.pitch), math.sin(view.pitch)
    scale = scales[:, None]
    right = feet[:, :1] + scale * turned[..., 0]
    down = view.altitude + scale * (turned[..., 1] - half_heights[:, None])
    ahead = feet[:, 1:] + scale * turned[..., 2]
    depth = np.maximum(down * sin + ahead * cos, 0.05 * view.altitude)
    columns = view.camera.cx + view.camera.fx * right / depth
    rows = view.camera.cy + view.camera.fy * (down * cos - ahead * sin) / depth
    return np.stack([columns.min(1), rows.min(1), columns.max(1), rows.max(1)], axis=1)


def _aspects(turned: Array64, half_heights: Array64, view: View) -> Array64:
    """(N, 2) width and height of silhouettes whose longer side is 1, seen small in the middle."""
    ahead = view.ground_ahead(view.height * 0.6)
    count = len(turned)
    scales = np.full(count, 0.05 * view.altitude)
    bounds = _project(turned, half_heights, view, np.tile([0.0, ahead], (count, 1)), scales)
    extents: Array64 = bounds[:, 2:] - bounds[:, :2]
    return extents / extents.max(axis=1, keepdims=True)


def _spread(rng: np.random.Generator, boxes: Array64, view: View) -> Array64:
    """(N, 2) centres of boxes that overlap little: several random starts, pushed apart, the best one kept."""
    margin = _MARGIN * min(view.width, view.height) + 1
    horizon = view.row_of_ground(_FARTHEST * view.altitude)
    low = boxes / 2 + margin
    low[:, 1] = np.maximum(low[:, 1], horizon - boxes[:, 1] * 0.25)
    high = np.array([view.width, view.height]) - boxes / 2 - margin
    low = np.minimum(low, high)
    count = len(boxes)
    centres = low + (high - low) * rng.random((_TRIALS, count, 2))
    if count == 1:
        return np.asarray(centres[0])
    apart = ~np.eye(count, dtype=bool)
    # Columns and rows apart: reductions along an axis of length two are slow.
    x, y = np.ascontiguousarray(centres[..., 0]), np.ascontiguousarray(centres[..., 1])
    reach_x, reach_y = ((boxes[:, None, axis] + boxes[None, :, axis]) * 0.5 for axis in (0, 1))
    for _ in range(_PUSHES):
        offset_x, offset_y = x[:, :, None] - x[:, None], y[:, :, None] - y[:, None]
        over_x = np.maximum(reach_x - np.abs(offset_x), 0) * apart
        over_y = np.maximum(reach_y - np.abs(offset_y), 0) * apart
        both = (over_x > 0) & (over_y > 0)
        push_x = (np.sign(offset_x) * over_x * (both & (over_x <= over_y))).sum(axis=2)
        push_y = (np.sign(offset_y) * over_y * (both & (over_y <= over_x))).sum(axis=2)
        x = np.clip(x + 0.45 * push_x, low[:, 0], high[:, 0])
        y = np.clip(y + 0.45 * push_y, low[:, 1], high[:, 1])
    over_x = np.maximum(reach_x - np.abs(x[:, :, None] - x[:, None]), 0)
    over_y = np.maximum(reach_y - np.abs(y[:, :, None] - y[:, None]), 0)
    worst = ((over_x * over_y * apart).sum(axis=2) / (boxes[:, 0] * boxes[:, 1])).max(axis=1)
    best = int(np.argmin(worst))
    return np.stack([x[best], y[best]], axis=1)


def _solve(
    turned: Array64, half_heights: Array64, view: View, centres: Array64, sizes: Array64
) -> tuple[Array64, Array64, Array64] | None:
    """Feet, scales and bounds with which the silhouettes come to lie at ``centres`` with longer side ``sizes``."""
    focal, cos, sin = view.camera.fy, math.cos(view.pitch), math.sin(view.pitch)
    ahead = np.array([view.ground_ahead(row) for row in centres[:, 1] + 0.3 * sizes])
    ahead = np.minimum(ahead, _FARTHEST * view.altitude)
    depth = ahead * cos + view.altitude * sin
    feet = np.stack([(centres[:, 0] - view.camera.cx) * depth / focal, ahead], axis=1)
    spans = np.abs(turned).max(axis=(1, 2))
    scales = 0.45 * sizes * depth / focal / spans
    for step in range(_SOLVER_STEPS):
        bounds = _project(turned, half_heights, view, feet, scales)
        if step == _SOLVER_STEPS - 1:
            break
        ratio = np.clip(sizes / (bounds[:, 2:] - bounds[:, :2]).max(axis=1), 0.6, 1.6)
        miss = centres - (bounds[:, 2:] + bounds[:, :2]) / 2
        depth = feet[:, 1] * cos + view.altitude * sin
        step_ahead = -miss[:, 1] * depth * depth / (focal * view.altitude)
        feet[:, 1] += np.clip(step_ahead, -0.4 * feet[:, 1], 0.6 * feet[:, 1])
        feet[:, 1] = np.minimum(feet[:, 1], _FARTHEST * view.altitude)
        feet[:, 0] += miss[:, 0] * depth / focal
        scales = scales * ratio
    inside = (bounds[:, :2] >= 0.5).all() and (bounds[:, 2:] <= np.array([view.width, view.height]) - 0.5).all()
    if not inside or _collide(turned, feet, scales):
        return None
    return feet, scales, bounds


def _collide(turned: Array64, feet: Array64, scales: Array64) -> bool:
    """Whether two footprints, as circles, share ground."""
    if len(feet) == 1:
        return False
    radii = scales * np.sqrt(turned[..., 0] ** 2 + turned[..., 2] ** 2).max(axis=1) * 0.85
    gaps = np.linalg.norm(feet[:, None] - feet[None], axis=-1) - radii[:, None] - radii[None]
    return bool((gaps[~np.eye(len(feet), dtype=bool)] < 0).any())


def _pose(look: Look, view: View, foot: Array64, *, scale: float, yaw: float, bounds: Array64) -> Pose:
    half = scale * np.asarray(look.half_sizes)
    cos, sin = math.cos(yaw), math.sin(yaw)
    frame = view.ground_to_camera()
    x0, y0, x1, y1 = bounds.tolist()
    return Pose(
        centre=frame @ np.array([foot[0], view.altitude - half[1], foot[1]]),
        rotation=frame @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]),
        half_sizes=half,
        scale=scale,
        foot=(float(foot[0]), float(foot[1])),
        yaw=yaw,
        bounds=(x0, y0, x1, y1),
    )
