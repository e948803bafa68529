"""Bars with their spread, one panel per measure, as a picture for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sigma_framework.types import RgbImage

_ROW, _HEAD, _GAP, _PLOT, _VALUE = 30, 34, 22, 300, 130
"""Pixels: height of a bar's row and of a panel's title, space between panels, width of a plot and of its numbers."""
_FONT = 15
_BAR, _DOT, _INK, _LINE = (126, 166, 204), (178, 60, 48), (30, 30, 30), (205, 205, 205)


def draw_bars(panels: Mapping[str, Mapping[str, Sequence[float]]], columns: int = 2) -> RgbImage:
    """One panel per measure, one bar per name: the mean, a whisker of one standard deviation, a dot per value.

    Args:
        panels: per measure, per name, its values; what is not finite is left out.
        columns: panels side by side.

    Returns:
        (H, W, 3) uint8.
    """
    font = ImageFont.load_default(size=_FONT)
    names = list(dict.fromkeys(name for bars in panels.values() for name in bars))
    label = max((math.ceil(font.getlength(name)) for name in names), default=0) + 12
    across = max(1, min(columns, len(panels)))
    size = (label + _PLOT + _VALUE + _GAP, _HEAD + _ROW * max(1, len(names)) + _GAP)
    sheet = Image.new("RGB", (size[0] * across + _GAP, size[1] * max(1, -(-len(panels) // across)) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (measure, bars) in enumerate(panels.items()):
        corner = (_GAP + size[0] * (number % across), _GAP + size[1] * (number // across))
        _draw_panel(draw, corner, label, measure, {name: bars.get(name, ()) for name in names}, font)
    return np.asarray(sheet)


def _draw_panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    label: int,
    measure: str,
    bars: Mapping[str, Sequence[float]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top = corner[0] + label, corner[1] + _HEAD
    draw.text((left, corner[1]), measure, fill=_INK, font=font)
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in bars.items()}
    low, high = _span(value for values in finite.values() for value in (*values, *_whisker(values)))

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * _PLOT

    for row, (name, values) in enumerate(finite.items()):
        middle = top + _ROW * row + _ROW // 2
        draw.text((left - 8, middle), name, fill=_INK, font=font, anchor="rm")
        if not values:
            draw.text((left + 4, middle), "-", fill=_INK, font=font, anchor="lm")
            continue
        mean, (first, last) = fmean(values), _whisker(values)
        draw.rectangle((min(at(0), at(mean)), middle - 9, max(at(0), at(mean)), middle + 9), fill=_BAR)
        draw.line((at(first), middle, at(last), middle), fill=_INK, width=2)
        for value in values:
            draw.ellipse((at(value) - 3, middle - 3, at(value) + 3, middle + 3), fill=_DOT)
        spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
        draw.text((left + _PLOT + 8, middle), f"{mean:.4g}{spread}", fill=_INK, font=font, anchor="lm")
    draw.line((at(0), top, at(0), top + _ROW * len(bars)), fill=_LINE)


def _whisker(values: Sequence[float]) -> tuple[float, ...]:
    """Mean minus and plus one standard deviation; nothing of nothing."""
    if not values:
        return ()
    spread = stdev(values) if len(values) > 1 else 0.0
    return fmean(values) - spread, fmean(values) + spread


def _span(values: object) -> tuple[float, float]:
    """Smallest and largest, with 0 among them: a bar that does not start at 0 misleads."""
    found = [0.0, *values]  # type: ignore[misc]  # an iterable of floats
    low, high = min(found), max(found)
    return (low, high) if high > low else (low, low + 1.0)
