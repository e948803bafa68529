"""From a scene's description to its picture; colours are the mean of four samples per pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.ground import render_ground
from sigma_datasources.toybox.layout import Pose, View
from sigma_datasources.toybox.looks import Look
from sigma_datasources.toybox.place import Light
from sigma_datasources.toybox.scenery import Scenery
from sigma_datasources.toybox.shading import albedo, shade
from sigma_datasources.toybox.solids import SOLIDS
from sigma_datasources.toybox.visibility import own_frame, pixel_window

Array = NDArray[np.float32]
Index = NDArray[np.int64]

_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Offsets from the pixel's centre, (x, y)."""


def paint(scenery: Scenery) -> NDArray[np.uint8]:
    """(H, W, 3) the picture: the ground once per pixel, subjects and their outlines four times."""
    view, count = scenery.view, len(_SAMPLES)
    ground = render_ground(scenery.place, view, scenery.backdrop, scenery.looks, scenery.poses)
    ground = ground.reshape(3, view.width * view.height)
    touched = [_touched(scenery.seen.owner, k, pixel_window(pose, view)) for k, pose in enumerate(scenery.poses)]
    place_of = np.zeros(ground.shape[1], np.int64)
    for index in touched:
        place_of[index] = 1
    pixels = np.flatnonzero(place_of)
    place_of[pixels] = np.arange(len(pixels))
    colours = np.tile(ground.take(pixels, axis=1), count)
    depth = np.full(colours.shape[1], np.inf, np.float32)
    for look, pose, index in zip(scenery.looks, scenery.poses, touched, strict=True):
        samples = (place_of.take(index) + len(pixels) * np.arange(count)[:, None]).ravel()
        _paint_subject(scenery, look, pose, _sample_rays(view, index), samples, colours=colours, depth=depth)
    for channel in range(3):
        ground[channel][pixels] = colours[channel].reshape(count, -1).sum(axis=0) * np.float32(1 / count)
    return to_bytes(ground, 1, view.height, view.width)


def _paint_subject(
    scenery: Scenery, look: Look, pose: Pose, directions: Array, samples: Index, *, colours: Array, depth: Array
) -> None:
    """Writes one subject into ``colours`` (3, S) and ``depth`` (S,) wherever it is the nearest so far."""
    frame = scenery.view.ground_to_camera().astype(np.float32)
    light = scenery.place.light
    x, up, z = light.direction
    to_own, origin = own_frame(look, pose)
    own_directions = to_own @ directions
    hit = SOLIDS[look.solid].enter(origin, own_directions)
    shown = np.flatnonzero(hit < depth.take(samples))
    samples, hit = samples.take(shown), hit.take(shown)
    depth[samples] = hit
    points = origin[:, None] + own_directions.take(shown, axis=1) * hit
    lit = _surface(
        look,
        pose,
        points,
        directions.take(shown, axis=1),
        light=light,
        towards_light=frame @ np.array([x, -up, z], np.float32),
        up=-frame[:, 1],
    )
    lit *= _corner_shade(look, points)
    for channel in range(3):  # row by row: a fancy index along the second axis is three times slower
        colours[channel][samples] = lit[channel]


def _corner_shade(look: Look, points: Array) -> Array:
    """(P,) light is scarce in the corner between a solid and the ground."""
    half = SOLIDS[look.solid].extents[1]
    height = (np.float32(half) - points[1]) * np.float32(0.5 / half)
    return np.float32(0.8) + np.float32(0.2) * np.minimum(height * 3, 1)


def to_bytes(summed: Array, samples: int, height: int, width: int) -> NDArray[np.uint8]:
    """(3, H * W) sums of ``samples`` colours -> (H, W, 3) uint8."""
    scaled = np.clip(summed * np.float32(255 / samples) + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(scaled.T).reshape(height, width, 3)


def _touched(owner: NDArray[np.int16], k: int, window: tuple[int, int, int, int]) -> Index:
    """Flat indices of the visible pixels of subject ``k`` and their neighbours."""
    height, width = owner.shape
    x0, y0, x1, y1 = window
    x0, y0, x1, y1 = max(0, x0 - 1), max(0, y0 - 1), min(width, x1 + 1), min(height, y1 + 1)
    mask = owner[y0:y1, x0:x1] == k
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    mask = wide.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    rows, columns = np.nonzero(wide)
    return (rows + y0) * width + columns + x0


def _sample_rays(view: View, index: Index) -> Array:
    """(3, S * P) ray directions with z = 1, sample after sample."""
    rows, columns = np.divmod(index, view.width)
    camera = view.camera
    directions = np.ones((3, len(_SAMPLES), len(index)), np.float32)
    for sample, (dx, dy) in enumerate(_SAMPLES):
        directions[0, sample] = (columns + (0.5 + dx - camera.cx)) * (1 / camera.fx)
        directions[1, sample] = (rows + (0.5 + dy - camera.cy)) * (1 / camera.fy)
    return directions.reshape(3, -1)


def _surface(
    look: Look, pose: Pose, points: Array, directions: Array, *, light: Light, towards_light: Array, up: Array
) -> Array:
    """(3, P) lit colours at points of one subject; everything happens along its own axes."""
    normals = unit(SOLIDS[look.solid].normal(points) / np.asarray(look.proportions, np.float32)[:, None])
    turn = pose.rotation.T.astype(np.float32)
    towards_eye = unit(turn @ -directions)
    base = albedo(look, points, normals)
    return shade(
        base, normals, towards_eye, gloss=look.gloss, light=light, light_direction=turn @ towards_light, up=turn @ up
    )


def unit(vectors: Array) -> Array:
    """(3, P) vectors of length 1."""
    x, y, z = vectors
    return vectors * (1 / np.sqrt(x * x + y * y + z * z))
