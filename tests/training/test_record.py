"""metrics.csv is appended to, grids are readable sheets."""

from __future__ import annotations

import csv
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from sigma_framework import RunError
from sigma_framework.training import trackers
from sigma_framework.training.record import COLUMNS, RunRecord, grid_picture
from sigma_framework.training.trackers import require_trackers


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


def test_a_line_that_was_cut_off_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, ())
    record.add({"step": 1, "stage": "s1", "loss": 0.5})
    path = tmp_path / "metrics.csv"
    path.write_bytes(path.read_bytes() + b"2,s1,0.2")
    again = RunRecord(tmp_path, ())
    for step in (2, 3):
        again.add({"step": step, "stage": "s1", "loss": 0.25})
    with path.open() as file:
        rows = [(row["step"], row["loss"]) for row in csv.DictReader(file)]
    assert rows == [("1", "0.5"), ("2", "0.2"), ("2", "0.25"), ("3", "0.25")]


def test_a_record_that_takes_no_more_is_told_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(RunError, match=r"metrics\.csv: could not be written \(Is a directory\).*run again"):
        RunRecord(tmp_path, ()).add({"step": 1, "stage": "s1", "loss": 0.5})
    (tmp_path / "grids").write_text("no folder")
    with pytest.raises(RunError, match=r"grids/s1\.png: could not be written \(File exists\)"):
        RunRecord(tmp_path, ()).add_grid("s1", 1, [[np.zeros((8, 8, 3), np.uint8)]])


class StandIn(ModuleType):
    """Notes the calls that wandb and trackio share."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, object]] = []
        self.__spec__ = ModuleSpec(name, None)

    def init(self, **options: object) -> None:
        self.calls.append(("init", options))

    def define_metric(self, name: str, step_metric: str) -> None:
        self.calls.append(("define_metric", (name, step_metric)))

    def log(self, values: dict[str, object], **step: object) -> None:
        self.calls.append(("log", {**values, **step}))

    def Image(self, picture: object) -> object:
        return np.asarray(picture).shape

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_boards_are_told_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    board = StandIn(package)
    monkeypatch.setitem(sys.modules, package, board)
    require_trackers([package])
    for step in (1, 2):
        record = RunRecord(tmp_path, [package])
        record.add({"step": step, "stage": "s1", "loss": 0.5, "val_loss": float("nan")})
        record.add_grid("s1-000000", step, [[np.zeros((8, 8, 3), np.uint8)]])
        record.close()
    inits = [what for name, what in board.calls if name == "init"]
    assert inits[0] == inits[1]
    assert inits[0]["resume"] == "allow"  # type: ignore[index]
    logs = [what for name, what in board.calls if name == "log"]
    assert logs[0] == {"loss": 0.5, "step": 1}
    assert set(logs[1]) == {"grid", "step"}  # type: ignore[call-overload]
    assert [name for name, _ in board.calls].count("finish") == 2
    assert not (tmp_path / "tensorboard").exists()


def test_a_board_that_is_not_installed_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "absent_board")
    with pytest.raises(RunError, match=r"train.loggers: wandb not installed; pip install 'sigma-framework\[wandb\]'"):
        require_trackers(["tensorboard", "wandb"])


def test_grid_holds_every_picture(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    row = [np.full((128, 128, 3), colour, np.uint8) for colour in colours]
    tall = np.concatenate([np.full((64, 64, 3), 40 * i, np.uint8) for i in range(1, 5)])
    path = RunRecord(tmp_path).add_grid("s1-000000", 0, [[*row, tall]], ["a", "b", "c", "d"])
    sheet = np.asarray(Image.open(path))
    assert all((sheet == colour).all(axis=-1).sum() == 128 * 128 for colour in colours)
    assert all((sheet == 40 * i).all(axis=-1).any() for i in range(1, 5))
    assert grid_picture([row]).shape[0] < sheet.shape[0]
