"""Identity images: one subject alone on white, in another pose and light than in its scene."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.looks import Look
from sigma_datasources.toybox.place import draw_light
from sigma_datasources.toybox.render import to_bytes, unit
from sigma_datasources.toybox.shading import albedo, shade
from sigma_datasources.toybox.solids import SOLIDS

Array = NDArray[np.float32]

PADDING = 1.3
"""Side of the picture over the longer side of the subject (the paper's figures)."""
SMALLEST_TURN = 30.0
"""Degrees between the yaw of the scene and that of the identity image, at least."""
_DISTANCE = 5.0
"""From the camera to the subject's centre, in units of its reach."""


def portray(rng: np.random.Generator, look: Look, yaw: float, pitch: float, size: int) -> NDArray[np.uint8]:
    """(size, size, 3) the identity image.

    Args:
        rng: decides pose and light.
        look: the identity.
        yaw: its yaw in the scene relative to the line of sight, radians.
        pitch: how far the scene's camera looks down, radians.
        size: side, pixels.
    """
    turned = yaw + math.radians(rng.uniform(SMALLEST_TURN, 360 - SMALLEST_TURN))
    tilted = _other_pitch(rng, math.degrees(pitch))
    rotation = _rotation(turned, tilted)
    solid = SOLIDS[look.solid]
    cloud = solid.cloud * np.asarray(look.proportions, np.float32) @ rotation.T.astype(np.float32)
    distance = np.float32(_DISTANCE * np.sqrt((cloud * cloud).sum(axis=1)).max())
    across = cloud[:, :2] / (cloud[:, 2:] + distance)
    low, high = across.min(axis=0), across.max(axis=0)
    step = float((high - low).max()) * PADDING / size
    middle = (low + high) / 2
    fine = (np.arange(2 * size, dtype=np.float32) + 0.5) / 2 - size / 2
    x, y = fine * np.float32(step) + middle[0], fine * np.float32(step) + middle[1]
    columns = np.flatnonzero((x >= low[0]) & (x <= high[0]))
    rows = np.flatnonzero((y >= low[1]) & (y <= high[1]))
    directions = np.ones((3, len(rows), len(columns)), np.float32)
    directions[0] = x[columns]
    directions[1] = y[rows][:, None]
    colours = _shoot(rng, look, rotation, distance, directions.reshape(3, -1))
    canvas = np.ones((3, 2 * size, 2 * size), np.float32)
    y0, x0 = rows[0], columns[0]
    canvas[:, y0 : y0 + len(rows), x0 : x0 + len(columns)] = colours.reshape(3, len(rows), len(columns))
    summed = canvas[:, ::2, ::2] + canvas[:, 1::2, ::2] + canvas[:, ::2, 1::2] + canvas[:, 1::2, 1::2]
    return to_bytes(summed.reshape(3, -1), 4, size, size)


def _other_pitch(rng: np.random.Generator, scene_degrees: float) -> float:
    """A pitch that differs from the scene's by 6 degrees at least, radians."""
    low, high = 8.0, 42.0
    below, above = max(0.0, scene_degrees - 6 - low), max(0.0, high - scene_degrees - 6)
    at = rng.uniform(0, below + above)
    return math.radians(low + at if at < below else scene_degrees + 6 + at - below)


def _rotation(yaw: float, pitch: float) -> NDArray[np.float64]:
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def _shoot(
    rng: np.random.Generator, look: Look, rotation: NDArray[np.float64], distance: np.float32, directions: Array
) -> Array:
    """(3, P) colours of rays from a camera ``distance`` in front of the subject; white where they miss."""
    solid = SOLIDS[look.solid]
    turn = rotation.T.astype(np.float32)
    to_own = (turn / np.asarray(look.proportions, np.float32)[:, None]).astype(np.float32)
    origin = to_own @ np.array([0, 0, -distance], np.float32)
    own = to_own @ directions
    hit = solid.enter(origin, own)
    shown = np.flatnonzero(np.isfinite(hit))
    points = origin[:, None] + own.take(shown, axis=1) * hit.take(shown)
    normals = unit(solid.normal(points) / np.asarray(look.proportions, np.float32)[:, None])
    towards_eye = unit(turn @ -directions.take(shown, axis=1))
    light = draw_light(rng, "soft" if rng.random() < 0.5 else "", vocabulary.LIGHT_TINTS["neutral"], widest=75)
    right, up, ahead = light.direction
    colours = np.ones((3, directions.shape[1]), np.float32)
    direction = np.array([right, -up, ahead], np.float32)
    upwards = turn @ np.array([0, -1, 0], np.float32)
    base = albedo(look, points, normals)
    lit = shade(base, normals, towards_eye, gloss=look.gloss, light=light, light_direction=turn @ direction, up=upwards)
    for channel in range(3):  # row by row: a fancy index along the second axis is three times slower
        colours[channel][shown] = lit[channel]
    return colours
