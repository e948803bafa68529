"""What a run writes while it goes on: metrics.csv, TensorBoard, grids of sample pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from sigma_framework.picture_grid import grid_picture
from sigma_framework.types import RgbImage

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = ("step", "stage", "loss", "val_loss", "d_lr", "examples_per_second")
"""Columns of metrics.csv; one line per step, and one more where a stage begins."""


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
        numbers = {name: one for name, one in values.items() if isinstance(one, float) and math.isfinite(one)}
        if numbers:
            self._show(numbers, values["step"])

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

    def _show(self, numbers: Mapping[str, float], step: object) -> None:
        """To TensorBoard, as one event: each wakes the thread that writes."""
        from torch.utils.tensorboard.summary import scalar

        together, *others = [scalar(name, value) for name, value in numbers.items()]
        for other in others:
            together.MergeFrom(other)
        self._tensorboard()._get_file_writer().add_summary(together, step)

    def _tensorboard(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer


def _short(name: str, value: object) -> object:
    """Nine digits tell any two float32 losses apart; the other numbers are for people."""
    digits = 9 if name in ("loss", "val_loss") else 6
    return f"{value:.{digits}g}" if isinstance(value, float) else value
