"""A scene as words tell it: captions become identities, a background prompt becomes a place; all else is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.config import MOST_SUBJECTS
from sigma_datasources.toybox.ground import draw_backdrop
from sigma_datasources.toybox.layout import arrange, draw_view
from sigma_datasources.toybox.looks import Look, second_colour
from sigma_datasources.toybox.place import Place, draw_light, draw_place
from sigma_datasources.toybox.scenery import SMALLEST_VISIBLE_SHARE, Scenery, smallest_pixels
from sigma_datasources.toybox.solids import SOLIDS
from sigma_datasources.toybox.visibility import see
from sigma_framework import DataError

_ATTEMPTS = 60
_SHRINK = 0.985
_COLOURS = {**vocabulary.COLOURS, **vocabulary.HELD_OUT_COLOURS}
_TEXTURES = (*vocabulary.TEXTURES, *vocabulary.HELD_OUT_TEXTURES)


def scenery_of(told: Mapping[str, Any]) -> Scenery:
    """The scene that a record's ``toybox`` entry stands for: the same whenever it is asked.

    Args:
        told: ``seed``, ``captions``, ``background`` and ``size`` (side in pixels).

    Raises:
        DataError: a word that the toybox does not know, or too many subjects.
    """
    captions: Sequence[str] = told["captions"]
    if not 1 <= len(captions) <= MOST_SUBJECTS:
        raise DataError(f"toybox_image: found {len(captions)} subjects, expected 1 to {MOST_SUBJECTS}")
    rng = np.random.Generator(np.random.Philox(int(told["seed"])))
    side = int(told["size"])
    looks = tuple(_look(caption, rng) for caption in captions)
    place = _place(str(told["background"]), rng)
    for attempt in range(_ATTEMPTS):
        view = draw_view(rng, len(looks), side, side)
        poses = arrange(rng, looks, view, _SHRINK**attempt)
        if poses is None:
            continue
        seen = see(looks, poses, view)
        enough = np.maximum(SMALLEST_VISIBLE_SHARE * seen.full, smallest_pixels(len(looks), side, side))
        if (seen.visible >= enough).all():
            return Scenery(place, view, draw_backdrop(rng, view, poses), looks, poses, seen)
    raise DataError(f"toybox_image: {len(looks)} subjects did not fit into {side} x {side} pixels")


def _look(caption: str, rng: np.random.Generator) -> Look:
    words = re.findall(r"[a-z]+", caption.lower())
    solid = next((word for word in words if word in SOLIDS), None)
    colour = next((word for word in words if word in _COLOURS), None)
    if solid is None or colour is None:
        known = f"{', '.join(vocabulary.SOLIDS)} in {', '.join(vocabulary.COLOURS)}"
        raise DataError(f"toybox_image: cannot draw {caption!r}; it draws {known}")
    texture = next((word for word in words if word in _TEXTURES), "plain")
    main, shape, numbers = _COLOURS[colour], SOLIDS[solid], rng.random(7).tolist()
    x, y, z = (low + (high - low) * at for (low, high), at in zip(shape.stretch, numbers[:3], strict=True))
    return Look(
        solid=solid,
        texture=texture,
        colour=colour,
        main=main,
        second=second_colour(rng, main),
        proportions=(x, y, z),
        cells=1.0 + 0.35 * numbers[3],
        phase=(numbers[4], numbers[5]),
        gloss=0.05 + 0.3 * numbers[6],
    )


def _place(prompt: str, rng: np.random.Generator) -> Place:
    """What the prompt names; what it does not name is drawn."""
    text, base = prompt.lower(), draw_place(rng)
    floor_name = _named(r"(\w+)(?: \w+)? floor", text, vocabulary.FLOOR_COLOURS)
    floor = vocabulary.FLOOR_COLOURS[floor_name] if floor_name else base.floor
    kind = next((kind for kind in vocabulary.FLOOR_KINDS if f"{kind} floor" in text), "plain" if floor_name else "")
    contrast = rng.uniform(0.68, 0.80)
    bright = 0.3 * floor[0] + 0.59 * floor[1] + 0.11 * floor[2] > 0.5
    factor = contrast if bright else min(1 / contrast, 1.45)
    red, green, blue = (min(1.0, value * factor) for value in floor)
    sky = _named(r"(\w+) sky", text, vocabulary.SKY_COLOURS)
    wall = next((name for name in vocabulary.WALL_COLOURS if f"{name} wall" in text), None)
    high, low = base.high, base.low
    if sky:
        high, low = vocabulary.SKY_COLOURS[sky]
    elif wall:
        high = low = vocabulary.WALL_COLOURS[wall]
    tint = next((name for name in vocabulary.LIGHT_TINTS if f"{name} light" in text), None)
    strength = next((name for name in ("soft", "bright") if name in text.split()), "")
    light = draw_light(rng, strength, vocabulary.LIGHT_TINTS[tint]) if tint else base.light
    return Place(
        floor_kind=kind or base.floor_kind,
        floor=floor,
        floor_second=(red, green, blue),
        floor_yaw=base.floor_yaw,
        floor_cell=base.floor_cell,
        backdrop="sky" if sky else "wall" if wall else base.backdrop,
        high=high,
        low=low,
        light=light,
        falloff=base.falloff,
        prompt=prompt,
    )


def _named(pattern: str, text: str, known: Mapping[str, Any]) -> str | None:
    return next((word for word in re.findall(pattern, text) if word in known), None)
