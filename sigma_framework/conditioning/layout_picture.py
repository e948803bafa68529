"""The layout for people: regions in distinct colours with the subjects' names, on grey or on the photograph."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sigma_framework.types import BoolMap, RgbImage

_GOLDEN = 0.61803398875
"""Steps of hue that stay apart for any number of subjects."""
_GROUND = 235
_OPACITY = 0.55

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, pixels."""


def draw_layout(
    regions: BoolMap, names: Sequence[str], background: RgbImage | None = None, labels: bool = True
) -> RgbImage:
    """A coloured preview of the regions.

    Args:
        regions: (N, H, W) bool, paste order: a later one lies on top.
        names: one per region.
        background: (H, W, 3) uint8 photograph to draw on; None is light grey.
        labels: whether the names are written; where two would overlap, all are numbers from 1 in the scene's order.

    Returns:
        (H, W, 3) uint8.
    """
    shape = (*regions.shape[1:], 3)
    picture = np.full(shape, _GROUND, dtype=np.uint8) if background is None else background.copy()
    for index, region in enumerate(regions):
        colour = np.array(subject_colour(index), dtype=np.float32)
        picture[region] = (picture[region] * (1 - _OPACITY) + colour * _OPACITY).astype(np.uint8)
        picture[_outline(region)] = subject_colour(index)
    if not labels:
        return picture
    image = Image.fromarray(picture)
    drawing = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(9, min(shape[:2]) // 28))
    shown = [
        (_anchor(region), name, str(number))
        for number, (region, name) in enumerate(zip(regions, names, strict=True), start=1)
        if name and region.any()
    ]
    style: dict[str, Any] = {"stroke_width": 1, "anchor": "mm", "font": font}
    boxes = [drawing.textbbox(place, name, **style) for place, name, _ in shown]
    crowded = any(_overlap(one, other) for one, other in itertools.combinations(boxes, 2))
    for place, name, number in shown:
        drawing.text(place, number if crowded else name, fill="white", stroke_fill="black", **style)
    return np.array(image)


def subject_colour(index: int) -> tuple[int, int, int]:
    """RGB of a subject by its place in the scene."""
    brightness = (0.95, 0.75, 0.55)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb((index * _GOLDEN) % 1.0, 0.75, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)


def _outline(region: BoolMap) -> BoolMap:
    """The region's pixels that touch its outside."""
    padded = np.pad(region, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(region & ~inner)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _anchor(region: BoolMap) -> tuple[float, float]:
    """x, y of the middle of the region's box."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
