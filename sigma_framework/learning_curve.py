"""How an adapter learned: the validation losses of its training, kept beside its weights."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

CURVE_FILE = "learning_curve.csv"
_COLUMNS = ("step", "stage", "val_loss")
_POINTS = 6
"""Points of a stage that a line of text shows."""


def write_learning_curve(metrics: Path, folder: Path) -> None:
    """Copies the validation losses of a run's ``metrics.csv`` into ``folder/learning_curve.csv``.

    A step that was done twice, because a run was resumed before it, counts once.
    """
    if not metrics.is_file():
        return
    found: dict[tuple[str, str], str] = {}
    with metrics.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("val_loss"):
                found[row["step"], row["stage"]] = row["val_loss"]
    if not found:
        return
    with (folder / CURVE_FILE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        rows.writerows((step, stage, loss) for (step, stage), loss in found.items())


def describe_learning_curve(folder: Path) -> list[str]:
    """One line per stage, ``s1: step 0 1.018, 200 0.713, ...``; empty where the folder holds no curve."""
    path = folder / CURVE_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for stage, group in groupby(rows, key=lambda row: row["stage"]):
        points = _spread([(int(row["step"]), float(row["val_loss"])) for row in group])
        lines.append(f"{stage}: step " + ", ".join(f"{step} {loss:.3f}" for step, loss in points))
    return lines


def _spread(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most ``_POINTS`` of them, the first and the last among these."""
    all_points = list(points)
    if len(all_points) <= _POINTS:
        return all_points
    last = len(all_points) - 1
    return [all_points[round(k * last / (_POINTS - 1))] for k in range(_POINTS)]
