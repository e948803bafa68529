"""What subjects look like: solid, texture, colours and proportions, drawn apart within one scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.solids import SOLIDS

_SECOND_CONTRAST = 0.22
"""Smallest difference of brightness between a texture's two colours."""


@dataclass(frozen=True, slots=True)
class Look:
    """One identity, whatever its pose and light."""

    solid: str
    """Name in ``SOLIDS``."""
    texture: str
    """Name in ``PATTERNS``."""
    colour: str
    """Name of the main colour."""
    main: vocabulary.Rgb
    """Main colour, RGB in 0..1."""
    second: vocabulary.Rgb
    """The texture's other colour, RGB in 0..1."""
    proportions: tuple[float, float, float]
    """Factors of the solid's own extents along its axes."""
    cells: float
    """Texture cells per mean half size."""
    phase: tuple[float, float]
    """Shift of the texture, cells."""
    gloss: float
    """Strength of the highlight, 0..1."""

    @property
    def caption(self) -> str:
        """``a red striped cube``."""
        return vocabulary.caption(self.colour, self.texture, self.solid)

    @property
    def half_sizes(self) -> tuple[float, float, float]:
        """Half sizes of its box along its own axes, before scaling."""
        extents = SOLIDS[self.solid].extents
        x, y, z = (extent * factor for extent, factor in zip(extents, self.proportions, strict=True))
        return x, y, z


def draw_looks(rng: np.random.Generator, count: int, config: ToyboxConfig) -> tuple[Look, ...]:
    """``count`` identities of which any two differ in two of solid, texture and main colour.

    With ``same_colour`` any two differ in both solid and texture.
    """
    solids = vocabulary.HELD_OUT_SOLIDS if config.holdout == "shapes" else vocabulary.SOLIDS
    textures = vocabulary.HELD_OUT_TEXTURES if config.holdout == "textures" else vocabulary.TEXTURES
    palette = vocabulary.HELD_OUT_COLOURS if config.holdout == "colours" else vocabulary.COLOURS
    names = list(palette)
    order = rng.permutation(len(names))
    colours = [names[order[0 if config.same_colour else k % len(names)]] for k in range(count)]
    pairs = _draw_pairs(rng, colours, len(solids), len(textures))
    seconds = {name: second_colour(rng, palette[name]) for name in dict.fromkeys(colours)}
    looks = []
    for colour, (solid, texture) in zip(colours, pairs, strict=True):
        shape = SOLIDS[solids[solid]]
        numbers = rng.random(7).tolist()
        x, y, z = (low + (high - low) * at for (low, high), at in zip(shape.stretch, numbers[:3], strict=True))
        if not config.same_colour:
            seconds[colour] = second_colour(rng, palette[colour])
        looks.append(
            Look(
                solid=shape.name,
                texture=textures[texture],
                colour=colour,
                main=palette[colour],
                second=seconds[colour],
                proportions=(x, y, z),
                cells=1.0 + 0.35 * numbers[3],
                phase=(numbers[4], numbers[5]),
                gloss=0.05 + 0.3 * numbers[6],
            )
        )
    return tuple(looks)


def _draw_pairs(rng: np.random.Generator, colours: list[str], solids: int, textures: int) -> list[tuple[int, int]]:
    """(solid, texture) per subject: all pairs differ, and under one colour neither part repeats."""
    while True:
        draws = np.stack(
            [rng.integers(solids, size=(len(colours), 64)), rng.integers(textures, size=(len(colours), 64))]
        )
        chosen: list[tuple[int, int]] = []
        for k, colour in enumerate(colours):
            rivals = [pair for pair, other in zip(chosen, colours[:k], strict=True) if other == colour]
            options = zip(draws[0, k].tolist(), draws[1, k].tolist(), strict=True)
            fitting = (
                pair for pair in options
                if pair not in chosen and all(pair[0] != rival[0] and pair[1] != rival[1] for rival in rivals)
            )  # fmt: skip
            pair = next(fitting, None)
            if pair is None:
                break
            chosen.append(pair)
        else:
            return chosen


def second_colour(rng: np.random.Generator, main: vocabulary.Rgb) -> vocabulary.Rgb:
    """White, black, a tint or a shade of the main colour: whichever of these is far enough from it in brightness."""
    red, green, blue = main
    options = [
        (0.94, 0.94, 0.93),
        (0.10, 0.10, 0.11),
        (0.45 * red + 0.53, 0.45 * green + 0.53, 0.45 * blue + 0.53),
        (0.38 * red, 0.38 * green, 0.38 * blue),
    ]
    far = [option for option in options if abs(_brightness(option) - _brightness(main)) >= _SECOND_CONTRAST]
    return far[int(rng.integers(len(far)))]


def _brightness(colour: vocabulary.Rgb) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
