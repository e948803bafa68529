"""What a run writes while it goes on: metrics.csv, grids of sample pictures, and the same for its trackers."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sigma_framework.picture_grid import grid_picture
from sigma_framework.training.trackers import Tracker, open_tracker
from sigma_framework.types import RgbImage

COLUMNS = ("step", "stage", "loss", "val_loss", "d_lr", "examples_per_second")
"""Columns of metrics.csv; one line per step, and one more where a stage begins."""


class RunRecord:
    """Appends to a run's records; an earlier part of the run is kept.

    Args:
        folder: the run folder.
        loggers: names of trackers, opened when there is something to show.
    """

    def __init__(self, folder: Path, loggers: Sequence[str] = ("tensorboard",)) -> None:
        self.folder, self.loggers = folder, tuple(loggers)
        self._path = folder / "metrics.csv"
        self._opened: list[Tracker] | None = None

    def add(self, values: dict[str, object]) -> None:
        """One line of metrics.csv, and its numbers to the trackers."""
        fresh = not self._path.exists() or self._path.stat().st_size == 0  # killed between creation and first line
        with self._path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, COLUMNS)
            if fresh:
                rows.writeheader()
            rows.writerow({name: _short(name, values.get(name, "")) for name in COLUMNS})
        numbers = {name: one for name, one in values.items() if isinstance(one, float) and math.isfinite(one)}
        if numbers:
            step = values["step"]
            assert isinstance(step, int)
            for tracker in self._trackers():
                tracker.add(numbers, step)

    def add_grid(self, name: str, step: int, rows: Sequence[Sequence[RgbImage]], titles: Sequence[str] = ()) -> Path:
        """Writes ``grids/<name>.png`` and shows it in the trackers."""
        picture = grid_picture(rows, titles)
        path = self.folder / "grids" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        for tracker in self._trackers():
            tracker.add_picture(picture, step)
        return path

    def close(self) -> None:
        """Flushes the trackers."""
        for tracker in self._opened or ():
            tracker.close()
        self._opened = None

    def _trackers(self) -> list[Tracker]:
        if self._opened is None:
            self._opened = [open_tracker(name, self.folder) for name in self.loggers]
        return self._opened


def _short(name: str, value: object) -> object:
    """Nine digits tell any two float32 losses apart; the other numbers are for people."""
    digits = 9 if name in ("loss", "val_loss") else 6
    return f"{value:.{digits}g}" if isinstance(value, float) else value
