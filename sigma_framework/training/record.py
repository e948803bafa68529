"""What a run writes while it goes on: metrics.csv, grids of sample pictures, and the same for its trackers."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from sigma_framework.errors import RunError
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
        self._whole = False
        """Whether the last line is known to have its end."""

    def add(self, values: dict[str, object]) -> None:
        """One line of metrics.csv, and its numbers to the trackers.

        Raises:
            RunError: the file takes no more.
        """
        with told_by(self._path):
            self._add_line({name: _short(name, values.get(name, "")) for name in COLUMNS})
        numbers = {name: one for name, one in values.items() if isinstance(one, float) and math.isfinite(one)}
        if numbers:
            step = values["step"]
            assert isinstance(step, int)
            for tracker in self._trackers():
                tracker.add(numbers, step)

    def _add_line(self, line: dict[str, object]) -> None:
        text = io.StringIO()
        rows = csv.DictWriter(text, COLUMNS)
        with self._path.open("a+b") as file:
            if file.seek(0, os.SEEK_END) == 0:  # also: killed between creation and first line
                rows.writeheader()
            elif not self._whole and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
                text.write("\r\n")  # a full disk or a lost machine cut the last line off
            rows.writerow(line)
            file.write(text.getvalue().encode())
        self._whole = True

    def add_grid(self, name: str, step: int, rows: Sequence[Sequence[RgbImage]], titles: Sequence[str] = ()) -> Path:
        """Writes ``grids/<name>.png`` and shows it in the trackers."""
        picture = grid_picture(rows, titles)
        path = self.folder / "grids" / f"{name}.png"
        with told_by(path):
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


@contextmanager
def told_by(path: Path) -> Iterator[None]:
    """A record that cannot be written ends the run as a mistake of the machine, not as a defect of the program."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: could not be written ({error.strerror or error}); mend this and run again to go on from the last "
            "checkpoint"
        ) from error


def _short(name: str, value: object) -> object:
    """Nine digits tell any two float32 losses apart; the other numbers are for people."""
    digits = 9 if name in ("loss", "val_loss") else 6
    return f"{value:.{digits}g}" if isinstance(value, float) else value
