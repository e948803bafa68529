"""The picture without subjects: ground, backdrop, and the soft shadows that subjects throw on the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.layout import Pose, View
from sigma_datasources.toybox.looks import Look
from sigma_datasources.toybox.place import Light, Place
from sigma_datasources.toybox.solids import SOLIDS

Array = NDArray[np.float32]

_SIDES = 16
"""Half planes that bound a shadow."""
_ANGLES = 2 * math.pi * np.arange(_SIDES) / _SIDES
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_EDGE_START = 0.05
"""Softness of a shadow where it touches its subject, in units of the subject's half size."""


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Where the ground ends."""

    row: float
    """Row of the picture, pixels; the ground lies below."""


def draw_backdrop(rng: np.random.Generator, view: View, poses: Sequence[Pose]) -> Backdrop:
    """Behind all subjects, as high in the picture as there is ground, or lower."""
    farthest = max(pose.foot[1] + 1.2 * math.hypot(pose.half_sizes[0], pose.half_sizes[2]) for pose in poses)
    lowest = min(view.row_of_ground(farthest), 0.42 * view.height)
    highest = min(max(view.row_of_ground(9 * view.altitude), 0.07 * view.height), lowest)
    return Backdrop(row=rng.uniform(highest, lowest))


def render_ground(place: Place, view: View, backdrop: Backdrop, looks: Sequence[Look], poses: Sequence[Pose]) -> Array:
    """(3, H, W) float32 colours in about 0..1."""
    picture = np.empty((3, view.height, view.width), np.float32)
    first = max(0, math.floor(backdrop.row))
    rows = np.arange(first, view.height, dtype=np.float32) + 0.5
    rows = np.maximum(rows, backdrop.row)
    _paint_backdrop(picture, place, view, backdrop, min(view.height, first + 1))
    right, ahead = _ground_points(view, rows)
    share = _pattern_share(place, view, rows)
    floor = np.asarray(place.floor, np.float32)[:, None, None]
    second = np.asarray(place.floor_second, np.float32)[:, None, None]
    light = place.light
    direct = np.float32(light.direct * light.direction[1]) * _unshadowed(light, looks, poses, right, ahead)
    strength = (direct + np.float32(light.ambient)) * _falloff(place, view, rows)
    strength *= np.float32(1 / (light.direct * 0.85 + light.ambient))
    tint = np.asarray(light.tint, np.float32)[:, None, None]
    ground = (floor + (second - floor) * share) * (strength * tint)
    covered = np.clip(first + 1 - backdrop.row, 0, 1) if backdrop.row > 0 else 1.0
    edge = picture[:, first].copy()
    picture[:, first:] = ground
    picture[:, first] += (edge - ground[:, 0]) * np.float32(1 - covered)
    return picture


def _paint_backdrop(picture: Array, place: Place, view: View, backdrop: Backdrop, rows: int) -> None:
    """Fills the first ``rows`` rows: a gradient, brighter on the side of the light."""
    height = max(backdrop.row, 1.0)
    at = np.clip((np.arange(rows, dtype=np.float32) + 0.5) / height, 0, 1)
    high, low = np.asarray(place.high, np.float32)[:, None], np.asarray(place.low, np.float32)[:, None]
    colours = high + (low - high) * at
    columns = np.linspace(-1, 1, view.width, dtype=np.float32)
    side = 1 + np.float32(0.05 * math.copysign(1, place.light.direction[0])) * columns
    level = 1.0 if place.backdrop == "sky" else 0.93 + 0.07 * min(1.0, place.light.direct / 0.8)
    tint = 1 + (np.asarray(place.light.tint, np.float32) - 1) * (0.3 if place.backdrop == "sky" else 1.0)
    picture[:, :rows] = (colours * (tint * np.float32(level))[:, None])[:, :, None] * side


def _ground_points(view: View, rows: Array, columns: Array | None = None) -> tuple[Array, Array]:
    """Right (R, C) and ahead (R, 1) of the ground at pixel positions, metres."""
    if columns is None:
        columns = np.arange(view.width, dtype=np.float32) + 0.5
    cos, sin = np.float32(math.cos(view.pitch)), np.float32(math.sin(view.pitch))
    slope = (rows - np.float32(view.camera.cy)) * np.float32(1 / view.camera.fy)
    depth = np.float32(view.altitude) / np.maximum(slope * cos + sin, 1e-3)
    across = (columns - np.float32(view.camera.cx)) * np.float32(1 / view.camera.fx)
    return depth[:, None] * across, (depth * (cos - slope * sin))[:, None]


def _pattern_share(place: Place, view: View, rows: Array) -> Array | np.float32:
    """(R, W) share of the second colour, the mean of four samples per pixel."""
    if place.floor_kind == "plain":
        return np.float32(0)
    fine_rows = (rows[:, None] + np.array([-0.25, 0.25], np.float32)).reshape(-1)
    fine_columns = np.arange(2 * view.width, dtype=np.float32) * np.float32(0.5) + np.float32(0.25)
    right, ahead = _ground_points(view, fine_rows, fine_columns)
    size = place.floor_cell * view.altitude
    cos, sin = np.float32(math.cos(place.floor_yaw) / size), np.float32(math.sin(place.floor_yaw) / size)
    a, b = cos * right + sin * ahead, cos * ahead - sin * right
    fine = _floor_pattern(place.floor_kind, a, b)
    return (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * np.float32(0.25)


def _floor_pattern(kind: str, a: Array, b: Array) -> Array:
    whole_a, whole_b = np.floor(a), np.floor(b)
    if kind == "checkered":
        return (whole_a + whole_b) % 2
    if kind == "tiled":
        return ((a - whole_a < 0.1) | (b - whole_b < 0.1)).astype(np.float32)
    if kind == "planked":
        # Planks are three cells long and run along b; every row starts elsewhere and has its own brightness.
        own = whole_a * np.float32(0.618)
        own -= np.floor(own)
        along = b * np.float32(1 / 3) + own
        joint = (a - whole_a < 0.08) | (along - np.floor(along) < 0.03)
        return np.where(joint, 1, own * 0.6).astype(np.float32)
    own = (whole_a * np.float32(0.618) + whole_b * np.float32(0.755)).astype(np.float32)
    own -= np.floor(own)
    da, db = a - whole_a - 0.25 - own * 0.5, b - whole_b - 0.7 + own * 0.4
    return (da * da + db * db < 0.05).astype(np.float32)


def _falloff(place: Place, view: View, rows: Array) -> Array:
    """(R, W) a slight darkening away from the brightest spot."""
    column, row = place.falloff
    columns = np.arange(view.width, dtype=np.float32) + np.float32(0.5)
    x = columns * np.float32(1 / view.width) - np.float32(column)
    y = rows * np.float32(1 / view.height) - np.float32(row)
    weight = np.float32(0.16)
    return np.float32(1.04) - weight * (y * y)[:, None] - weight * x * x


def _unshadowed(light: Light, looks: Sequence[Look], poses: Sequence[Pose], right: Array, ahead: Array) -> Array:
    """(R, W) share of the direct light that reaches the ground."""
    reach = np.ones(right.shape, np.float32)
    ahead = np.broadcast_to(ahead, right.shape)
    for look, pose in zip(looks, poses, strict=True):
        _throw_shadow(reach, light, look, pose, (right, ahead))
    return reach


def _throw_shadow(reach: Array, light: Light, look: Look, pose: Pose, ground: tuple[Array, Array]) -> None:
    """Darkens ``reach`` inside the hull of the solid's points, moved along the light onto the ground."""
    right, ahead = ground
    points = SOLIDS[look.solid].cloud * (np.asarray(look.proportions) * pose.scale)
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    height = pose.half_sizes[1] - points[:, 1]
    x, up, z = light.direction
    thrown = np.stack(
        [
            cos * points[:, 0] + sin * points[:, 2] - x / up * height,
            cos * points[:, 2] - sin * points[:, 0] - z / up * height,
        ],
        axis=1,
    )
    support = (thrown @ _DIRECTIONS.T).max(axis=0)
    size = float(pose.half_sizes.mean())
    longest = math.hypot(x, z) / up * 2 * float(pose.half_sizes[1])
    start, growth = _EDGE_START * size, light.blur * 3
    widest = start + growth * longest
    foot_x, foot_z = pose.foot
    east, north, west, south = support[0], support[_SIDES // 4], support[_SIDES // 2], support[3 * _SIDES // 4]
    near = (right > foot_x - west - widest) & (right < foot_x + east + widest)
    near &= (ahead > foot_z - south - widest) & (ahead < foot_z + north + widest)
    index = np.flatnonzero(near)
    if not len(index):
        return
    spots = np.stack([right.ravel()[index] - np.float32(foot_x), ahead.ravel()[index] - np.float32(foot_z)])
    outside = (_DIRECTIONS.astype(np.float32) @ spots - support.astype(np.float32)[:, None]).max(axis=0)
    flat = np.float32(max(math.hypot(x, z), 1e-6))
    gone = np.maximum((spots[0] * np.float32(-x) + spots[1] * np.float32(-z)) / flat, 0)
    width = np.float32(start) + np.float32(growth) * np.minimum(gone, np.float32(longest))
    at = np.clip(0.5 - 0.5 * outside / width, 0, 1)
    shadow = at * at * (3 - 2 * at)
    reach.ravel()[index] *= 1 - np.float32(0.92) * shadow
