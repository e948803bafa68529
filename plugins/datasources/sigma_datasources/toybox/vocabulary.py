"""The words of the toybox world: what there is, what is held out of training, and how it is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

Rgb = tuple[float, float, float]

SOLIDS = (
    "cube", "sphere", "cylinder", "cone", "pyramid", "prism", "octahedron", "capsule", "hexagon", "frustum",
)  # fmt: skip
"""Solids that training shows."""
HELD_OUT_SOLIDS = ("wedge", "dome")
"""Solids of ``holdout: shapes`` alone."""

TEXTURES = (
    "plain", "striped", "barred", "checkered", "dotted", "faded", "halved", "gridded", "speckled", "diagonal",
)  # fmt: skip
"""Textures that training shows; ``plain`` is not said in captions."""
HELD_OUT_TEXTURES = ("zigzag", "ringed")
"""Textures of ``holdout: textures`` alone."""

COLOURS: dict[str, Rgb] = {
    "red": (0.82, 0.13, 0.13),
    "orange": (0.96, 0.52, 0.08),
    "yellow": (0.97, 0.86, 0.18),
    "green": (0.13, 0.58, 0.22),
    "teal": (0.06, 0.52, 0.53),
    "blue": (0.14, 0.36, 0.90),
    "navy": (0.10, 0.13, 0.40),
    "purple": (0.52, 0.22, 0.68),
    "pink": (0.97, 0.60, 0.74),
    "brown": (0.46, 0.27, 0.14),
    "grey": (0.58, 0.58, 0.60),
    "black": (0.13, 0.13, 0.14),
}
"""Main colours that training shows, RGB in 0..1."""
HELD_OUT_COLOURS: dict[str, Rgb] = {
    "magenta": (0.86, 0.10, 0.58),
    "cyan": (0.30, 0.82, 0.93),
    "lime": (0.62, 0.88, 0.16),
}
"""Main colours of ``holdout: colours`` alone."""

FLOOR_KINDS = ("plain", "checkered", "planked", "tiled", "speckled")
"""Patterns of the ground; ``plain`` is not said."""
FLOOR_COLOURS: dict[str, Rgb] = {
    "grey": (0.62, 0.62, 0.62),
    "white": (0.88, 0.88, 0.87),
    "beige": (0.82, 0.74, 0.60),
    "brown": (0.56, 0.42, 0.31),
    "green": (0.50, 0.63, 0.48),
    "blue": (0.47, 0.56, 0.70),
    "pink": (0.82, 0.66, 0.66),
    "dark": (0.32, 0.32, 0.34),
}
"""Muted, so that subjects stand out."""
WALL_COLOURS: dict[str, Rgb] = {
    "pale blue": (0.71, 0.82, 0.92),
    "pale green": (0.74, 0.87, 0.75),
    "pale pink": (0.94, 0.79, 0.80),
    "cream": (0.96, 0.92, 0.80),
    "grey": (0.68, 0.68, 0.70),
    "white": (0.95, 0.95, 0.95),
    "lavender": (0.79, 0.75, 0.90),
    "dark": (0.36, 0.37, 0.41),
}
"""Colours of a wall behind the ground."""
SKY_COLOURS: dict[str, tuple[Rgb, Rgb]] = {
    "blue": ((0.38, 0.62, 0.92), (0.84, 0.92, 0.98)),
    "grey": ((0.60, 0.63, 0.68), (0.84, 0.85, 0.87)),
    "orange": ((0.62, 0.56, 0.74), (0.99, 0.74, 0.48)),
    "pink": ((0.66, 0.64, 0.86), (0.98, 0.80, 0.82)),
}
"""(high, low) colours of an open sky."""

LIGHT_TINTS: dict[str, Rgb] = {
    "warm": (1.07, 0.99, 0.86),
    "cool": (0.90, 0.98, 1.10),
    "neutral": (1.0, 1.0, 1.0),
}
"""Colour of the light, as factors."""
LIGHT_STRENGTHS = ("soft", "", "bright")
"""Soft light has wide shadows, bright light deep ones; the middle one is not said."""

_PLACES = (
    "{floor} and {wall} in {light}",
    "{floor} before {wall} in {light}",
    "{light} on {floor} and {wall}",
)
_SUBJECT_LISTS = ("{place} with {subjects}", "{place} showing {subjects}", "{place} behind {subjects}")


def with_article(text: str) -> str:
    """``a cube``, ``an orange cube``."""
    return f"{'an' if text[0] in 'aeio' else 'a'} {text}"


def caption(colour: str, texture: str, solid: str) -> str:
    """``a red striped cube``; a plain texture is not said."""
    return with_article(" ".join(word for word in (colour, "" if texture == "plain" else texture, solid) if word))


def listing(captions: Sequence[str]) -> str:
    """``a red cube, a green cone and a blue sphere``."""
    return captions[0] if len(captions) == 1 else f"{', '.join(captions[:-1])} and {captions[-1]}"


def describe_place(
    *,
    floor_kind: str,
    floor_colour: str,
    backdrop: Literal["wall", "sky"],
    backdrop_colour: str,
    light: str,
    phrasing: int,
) -> str:
    """``a grey tiled floor and a pale blue wall in warm light``; ``phrasing`` counts round."""
    floor = f"{floor_colour} floor" if floor_kind == "plain" else f"{floor_colour} {floor_kind} floor"
    return _PLACES[phrasing % len(_PLACES)].format(
        floor=with_article(floor), wall=with_article(f"{backdrop_colour} {backdrop}"), light=f"{light} light"
    )


def describe_scene(place: str, captions: Sequence[str], phrasing: int) -> str:
    """The place first, then all subjects; ``phrasing`` counts round."""
    return _SUBJECT_LISTS[phrasing % len(_SUBJECT_LISTS)].format(place=place, subjects=listing(captions))


def light_name(strength: str, tint: str) -> str:
    """``soft warm``, or ``warm`` when the strength is not said."""
    return f"{strength} {tint}".strip()


def all_words() -> tuple[str, ...]:
    """Every word of every caption and prompt, held-out ones too, sorted; lower case, without punctuation."""
    names = [
        *SOLIDS, *HELD_OUT_SOLIDS, *TEXTURES, *HELD_OUT_TEXTURES, *COLOURS, *HELD_OUT_COLOURS, *FLOOR_KINDS,
        *FLOOR_COLOURS, *WALL_COLOURS, *SKY_COLOURS, *LIGHT_TINTS, *LIGHT_STRENGTHS, "floor", "wall", "sky", "light",
        "a", "an", "and", *(re.sub(r"\{.*?\}", " ", text) for text in (*_PLACES, *_SUBJECT_LISTS)),
    ]  # fmt: skip
    return tuple(sorted({word for name in names for word in name.split()}))


def sample_prompts(rng: np.random.Generator, count: int) -> list[str]:
    """Prompts as training shows them: places alone and places with 1 to 10 subjects, without held-out words."""
    prompts = []
    for _ in range(count):
        sky = rng.random() < 0.3
        place = describe_place(
            floor_kind=str(rng.choice(FLOOR_KINDS)),
            floor_colour=str(rng.choice(list(FLOOR_COLOURS))),
            backdrop="sky" if sky else "wall",
            backdrop_colour=str(rng.choice(list(SKY_COLOURS if sky else WALL_COLOURS))),
            light=light_name(str(rng.choice(LIGHT_STRENGTHS)), str(rng.choice(list(LIGHT_TINTS)))),
            phrasing=int(rng.integers(len(_PLACES))),
        )
        subjects = [
            caption(str(rng.choice(list(COLOURS))), str(rng.choice(TEXTURES)), str(rng.choice(SOLIDS)))
            for _ in range(int(rng.integers(0, 11)))
        ]
        prompts.append(describe_scene(place, subjects, int(rng.integers(len(_SUBJECT_LISTS)))) if subjects else place)
    return prompts
