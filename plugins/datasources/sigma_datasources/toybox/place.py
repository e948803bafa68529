"""The place of a scene: ground, backdrop and light, and the prompt that names them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.vocabulary import Rgb

_SKY_SHARE = 0.3
"""Share of scenes under an open sky."""
_STRENGTHS = {"soft": (0.50, 0.60, 0.16), "": (0.64, 0.52, 0.09), "bright": (0.82, 0.42, 0.045)}
"""Direct light, ambient light, and how fast a shadow's edge widens, per strength."""


@dataclass(frozen=True, slots=True)
class Light:
    """One far light and a sky that lights from above."""

    direction: tuple[float, float, float]
    """Unit vector towards the light in ground coordinates: right, up, ahead."""
    tint: Rgb
    """Factors of the light's colour."""
    direct: float
    """Strength of the far light."""
    ambient: float
    """Strength of the light from everywhere."""
    blur: float
    """Growth of a shadow's soft edge per length of shadow."""


@dataclass(frozen=True, slots=True)
class Place:
    """Everything but the subjects and the camera."""

    floor_kind: str
    """Pattern of the ground."""
    floor: Rgb
    """Colour of the ground."""
    floor_second: Rgb
    """Second colour of its pattern."""
    floor_yaw: float
    """Turn of the pattern, radians."""
    floor_cell: float
    """Size of the pattern's cell, as a share of the camera's height."""
    backdrop: Literal["wall", "sky"]
    """What stands where the ground ends."""
    high: Rgb
    """Colour of the backdrop at the top."""
    low: Rgb
    """Colour of the backdrop where the ground ends."""
    light: Light
    """The light."""
    falloff: tuple[float, float]
    """Column and row, as shares of the picture, around which the ground is brightest."""
    prompt: str
    """``a grey tiled floor and a pale blue wall in warm light``."""


def draw_light(rng: np.random.Generator, strength: str, tint: Rgb, widest: float = 120) -> Light:
    """A light from above, at most ``widest`` degrees to the side of the camera's back."""
    elevation = math.radians(rng.uniform(42, 68))
    azimuth = math.radians(rng.uniform(-widest, widest))  # 0 shines from behind the camera
    direct, ambient, blur = _STRENGTHS[strength]
    flat = math.cos(elevation)
    return Light(
        direction=(flat * math.sin(azimuth), math.sin(elevation), -flat * math.cos(azimuth)),
        tint=tint,
        direct=direct,
        ambient=ambient,
        blur=blur,
    )


def draw_place(rng: np.random.Generator) -> Place:
    """A ground, a backdrop and a light, with their prompt."""
    kind = vocabulary.FLOOR_KINDS[int(rng.integers(len(vocabulary.FLOOR_KINDS)))]
    floor_name = _pick(rng, vocabulary.FLOOR_COLOURS)
    floor = vocabulary.FLOOR_COLOURS[floor_name]
    sky = rng.random() < _SKY_SHARE
    if sky:
        backdrop_name = _pick(rng, vocabulary.SKY_COLOURS)
        high, low = vocabulary.SKY_COLOURS[backdrop_name]
    else:
        backdrop_name = _pick(rng, vocabulary.WALL_COLOURS)
        low = vocabulary.WALL_COLOURS[backdrop_name]
        high = _scaled(low, rng.uniform(0.9, 1.02))
    strength = vocabulary.LIGHT_STRENGTHS[int(rng.integers(3))]
    tint = _pick(rng, vocabulary.LIGHT_TINTS)
    contrast = rng.uniform(0.68, 0.80)
    brightness = 0.3 * floor[0] + 0.59 * floor[1] + 0.11 * floor[2]
    second = _scaled(floor, contrast if brightness > 0.5 else min(1 / contrast, 1.45))
    return Place(
        floor_kind=kind,
        floor=floor,
        floor_second=second,
        floor_yaw=rng.uniform(0, math.pi / 2),
        floor_cell=rng.uniform(0.28, 0.45),
        backdrop="sky" if sky else "wall",
        high=high,
        low=low,
        light=draw_light(rng, strength, vocabulary.LIGHT_TINTS[tint]),
        falloff=(rng.uniform(0.2, 0.8), rng.uniform(0.4, 0.9)),
        prompt=vocabulary.describe_place(
            floor_kind=kind,
            floor_colour=floor_name,
            backdrop="sky" if sky else "wall",
            backdrop_colour=backdrop_name,
            light=vocabulary.light_name(strength, tint),
            phrasing=int(rng.integers(3)),
        ),
    )


def _pick(rng: np.random.Generator, names: Mapping[str, object]) -> str:
    return list(names)[int(rng.integers(len(names)))]


def _scaled(colour: Rgb, factor: float) -> Rgb:
    red, green, blue = (min(1.0, value * factor) for value in colour)
    return red, green, blue
