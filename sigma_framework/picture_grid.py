"""Pictures side by side on one sheet, for people to compare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sigma_framework.types import RgbImage

_ROW_HEIGHT, _GAP, _HEADER = 128, 6, 16


def grid_picture(rows: Sequence[Sequence[RgbImage]], titles: Sequence[str] = ()) -> RgbImage:
    """Pictures of any sizes as one white sheet, rows of equal height, columns aligned, titles on top."""
    scaled = [[_to_height(untile(picture), _ROW_HEIGHT) for picture in row] for row in rows]
    columns = max(len(row) for row in scaled)
    widths = [max(row[c].width for row in scaled if c < len(row)) for c in range(columns)]
    top = _HEADER if titles else 0
    size = (sum(widths) + _GAP * (columns + 1), top + len(scaled) * (_ROW_HEIGHT + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = _GAP
    for column, width in enumerate(widths):
        if column < len(titles):
            draw.text((left, 3), titles[column], fill="black")
        for number, row in enumerate(scaled):
            if column < len(row):
                sheet.paste(row[column], (left, top + _GAP + number * (_ROW_HEIGHT + _GAP)))
        left += width + _GAP
    return np.asarray(sheet)


def untile(picture: RgbImage) -> RgbImage:
    """A tall stack of square blocks (``I^S``) laid out in two rows; other pictures as they are."""
    height, width = picture.shape[:2]
    if height % width or height <= width:
        return picture
    blocks = [picture[start : start + width] for start in range(0, height, width)]
    blocks += [np.full_like(blocks[0], 255)] * (len(blocks) % 2)
    half = len(blocks) // 2
    return np.vstack([np.hstack(blocks[:half]), np.hstack(blocks[half:])])


def _to_height(picture: RgbImage, height: int) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.BILINEAR)
