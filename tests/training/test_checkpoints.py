"""Checkpoints: whole or absent, verified when read, the last good one never lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sigma_framework import RunError
from sigma_framework.training import checkpoints
from sigma_framework.training.checkpoints import Checkpoint, load_newest, save_checkpoint, sweep_temporaries


def made(step: int) -> Checkpoint:
    return Checkpoint(
        step=step, parameters={"w": torch.full((3,), float(step))}, optimizer={"d": 0.5}, recipe="task: train"
    )


def test_round_trip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(7))
    state, notes = load_newest(tmp_path)
    assert state is not None
    assert (state.step, state.optimizer, notes) == (7, {"d": 0.5}, [])
    assert torch.equal(state.parameters["w"], torch.full((3,), 7.0))


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, made(step))
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["step-00000002.pt", "step-00000003.pt"]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "no manifest"])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, made(1))
    path = save_checkpoint(tmp_path, made(2))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "no manifest":
        path.with_suffix(".json").unlink()
    else:
        path.write_bytes({"cut": bytes(data[:-9]), "flip": bytes(data), "empty": b""}[damage])
    state, notes = load_newest(tmp_path)
    assert state is not None
    assert state.step == 1
    assert notes == ["step-00000002.pt is damaged or unfinished and was passed over"]


def test_a_full_disk_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, made(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        save_checkpoint(tmp_path, made(2))
    monkeypatch.undo()
    state, _ = load_newest(tmp_path)
    assert state is not None
    assert state.step == 1
    assert not list(tmp_path.glob(".*.writing"))


def test_leftovers_of_a_killed_save_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".step-00000001.pt.77.writing").write_bytes(b"half")
    assert sweep_temporaries(tmp_path) == 1
    assert not list(tmp_path.iterdir())
    assert sweep_temporaries(tmp_path / "absent") == 0


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "absent") == (None, [])
    assert checkpoints.KEEP == 2


def test_damaged_ones_never_push_out_a_good_one(tmp_path: Path) -> None:
    for step in (80, 120):
        save_checkpoint(tmp_path, made(step)).write_bytes(b"damaged")
    with pytest.raises(RunError, match="no checkpoint verifies"):
        load_newest(tmp_path)
    save_checkpoint(tmp_path, made(40))
    state, _ = load_newest(tmp_path)
    assert state is not None
    assert state.step == 40
    assert len(list(tmp_path.glob("*.damaged"))) == 2
