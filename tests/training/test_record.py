"""metrics.csv is appended to, grids are readable sheets."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from sigma_framework.training.record import COLUMNS, RunRecord, grid_picture


def test_a_second_process_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        record = RunRecord(tmp_path)
        record.add({"step": step, "stage": "s1", "loss": 0.5, "d_lr": 1e-3})
        record.close()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert tuple(rows[0]) == COLUMNS
    assert list((tmp_path / "tensorboard").iterdir())


def test_grid_holds_every_picture(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    row = [np.full((128, 128, 3), colour, np.uint8) for colour in colours]
    tall = np.concatenate([np.full((64, 64, 3), 40 * i, np.uint8) for i in range(1, 5)])
    path = RunRecord(tmp_path).add_grid("s1-000000", 0, [[*row, tall]], ["a", "b", "c", "d"])
    sheet = np.asarray(Image.open(path))
    assert all((sheet == colour).all(axis=-1).sum() == 128 * 128 for colour in colours)
    assert all((sheet == 40 * i).all(axis=-1).any() for i in range(1, 5))
    assert grid_picture([row]).shape[0] < sheet.shape[0]
