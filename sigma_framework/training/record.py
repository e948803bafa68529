"""What a run writes while it goes on: metrics.csv, TensorBoard, grids of sample pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from sigma_framework.types import RgbImage

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = ("step", "stage", "loss", "val_loss", "d_lr", "examples_per_second")
"""Columns of metrics.csv; one line per step, and one more where a stage begins."""
_ROW_HEIGHT, _GAP, _HEADER = 128, 6, 16


class RunRecord:
    """Appends to a run's records; an earlier part of the run is kept.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "metrics.csv"
        self._writer: SummaryWriter | None = None

    def add(self, values: dict[str, object]) -> None:
        """One line of metrics.csv, and its numbers to TensorBoard."""
        fresh = not self._path.exists() or self._path.stat().st_size == 0  # killed between creation and first line
        with self._path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, COLUMNS)
            if fresh:
                rows.writeheader()
            rows.writerow({name: _short(name, values.get(name, "")) for name in COLUMNS})
        step = values["step"]
        for name, value in values.items():
            if isinstance(value, float) and math.isfinite(value):
                self._tensorboard().add_scalar(name, value, step)

    def add_grid(self, name: str, step: int, rows: Sequence[Sequence[RgbImage]], titles: Sequence[str] = ()) -> Path:
        """Writes ``grids/<name>.png`` and shows it in TensorBoard."""
        picture = grid_picture(rows, titles)
        path = self.folder / "grids" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        self._tensorboard().add_image("grid", picture, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self._writer is not None:
            self._writer.close()

    def _tensorboard(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer


def grid_picture(rows: Sequence[Sequence[RgbImage]], titles: Sequence[str] = ()) -> RgbImage:
    """Pictures of any sizes as one white sheet, rows of equal height, columns aligned, titles on top."""
    scaled = [[_to_height(_untile(picture), _ROW_HEIGHT) for picture in row] for row in rows]
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


def _untile(picture: RgbImage) -> RgbImage:
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


def _short(name: str, value: object) -> object:
    """Nine digits tell any two float32 losses apart; the other numbers are for people."""
    digits = 9 if name in ("loss", "val_loss") else 6
    return f"{value:.{digits}g}" if isinstance(value, float) else value
