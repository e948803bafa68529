"""Checkpoints: whole or absent, verified when read, the last good one never lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_framework import RunError
from sigma_framework.training import checkpoints, durable_file
from sigma_framework.training.checkpoints import (
    FORMAT,
    VerifiedCheckpoints,
    bytes_of,
    find_newest,
    path_of,
    set_damaged_aside,
    sweep_unfinished,
)

CALLS = ("open", "write", "fsync", "replace", "close")
"""System calls of a save; each of them can fail."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_file, "os", Faulty())


def content(step: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "step": step,
        "seed": 7,
        "state_dict": {"w": torch.full((300,), float(step)), "v": torch.zeros(2, 2)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(300)}}, "param_groups": [{"d": 0.5, "lr": 1.0}]}],
        "recipe": "task: train",
    }


def save(folder: Path, step: int, keep: int = 2) -> Path:
    path = path_of(folder, step)
    VerifiedCheckpoints(keep).save_checkpoint(content(step), path)
    return path


def newest_step(folder: Path) -> int:
    """The newest good one's step, which its weights must repeat."""
    newest = find_newest(folder).newest
    assert newest is not None
    assert torch.equal(newest.parameters["w"], torch.full((300,), float(newest.step)))
    return newest.step


def test_round_trip(tmp_path: Path) -> None:
    save(tmp_path, 7)
    found = find_newest(tmp_path)
    assert found.newest is not None
    assert (found.newest.step, found.newest.seed, found.newest.recipe, found.notes) == (7, 7, "task: train", [])
    assert found.newest.optimizer["param_groups"] == [{"d": 0.5, "lr": 1.0}]
    assert newest_step(tmp_path) == 7


def test_a_checkpoint_is_hardly_larger_than_its_tensors(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    tensors = 4 * (300 + 4 + 300)
    assert tensors < path.stat().st_size < tensors + 4096
    assert bytes_of(content(1)) == tensors + (1 << 20)


@pytest.mark.parametrize("keep", [2, 3])
def test_only_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in range(1, 6):
        save(tmp_path, step, keep)
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == [
        path_of(tmp_path, n).name for n in range(6 - keep, 6)
    ]
    assert len(list(tmp_path.iterdir())) == 2 * keep


class Faulty:
    """The os module, of which one call fails."""

    def __init__(self, call: str = "", number: int = 0, code: int = 0) -> None:
        self.call, self.number, self.code = call, number, code
        self.counts = dict.fromkeys(CALLS, 0)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        if name == "fsync":  # what fails is tried here, not the disk
            real = int

        def counted(*arguments: Any) -> Any:
            self.counts[name] += 1
            if name == self.call and self.counts[name] == self.number:
                if name == "close":
                    real(*arguments)
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments)

        return counted


def every_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int, int]]:
    """Each call of a save by name and number, with each cause; writes are many alike, so the causes take turns."""
    counted = Faulty()
    with monkeypatch.context() as patch:
        patch.setattr(durable_file, "os", counted)
        save(folder, 1)
    calls = {"open": 4, "fsync": 4, "replace": 2, "close": 4}  # file, folder, manifest, folder
    assert counted.counts == {**calls, "write": counted.counts["write"]}
    assert counted.counts["write"] > 10
    causes = (errno.ENOSPC, errno.EIO, errno.EACCES)
    for call, count in counted.counts.items():
        for number in range(1, count + 1):
            for cause in causes if call != "write" else (causes[number % 3],):
                yield call, number, cause


def test_whatever_call_of_a_save_fails_the_previous_one_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = save(tmp_path / "before", 1)
    for call, number, code in every_fault(tmp_path / "counted", monkeypatch):
        folder = tmp_path / "run"
        shutil.copytree(previous.parent, folder)
        with monkeypatch.context() as patch:
            patch.setattr(durable_file, "os", Faulty(call, number, code))
            with pytest.raises(RunError, match=rf"run/step-00000002.*{os.strerror(code)}"):
                save(folder, 2, keep=2)
        assert torch.equal(
            VerifiedCheckpoints().load_checkpoint(folder / previous.name)["state_dict"]["w"], torch.ones(300)
        ), (call, number)
        # Only the sync of the folder after the manifest's rename fails when the new one is whole already.
        whole = (call, number) in {("open", 4), ("fsync", 4), ("close", 4)}
        assert newest_step(folder) == (2 if whole else 1), (call, number)
        assert not list(folder.glob(".*.writing")), (call, number)
        save(folder, 2)
        assert newest_step(folder) == 2
        shutil.rmtree(folder)


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    before = sorted(tmp_path.iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(RunError, match=r"needs about 1 MB, 0 MB are free"):
        save(tmp_path, 2)
    assert sorted(tmp_path.iterdir()) == before


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes under a manifest that vouches for them."""
    path.write_bytes(data)
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    path.with_suffix(".json").write_text(json.dumps(manifest))


def resave(path: Path, value: Any) -> None:
    torch.save(value, path)
    rewrite(path, path.read_bytes())


def replaced_by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


class Payload:
    """Unpickled, it would write a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


MANIFEST = ".json"
DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut at 1 %": lambda path: cut(path, 0.01),
    "cut at half": lambda path: cut(path, 0.5),
    "cut at 99 %": lambda path: cut(path, 0.99),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "first bit": lambda path: flip(path, 0.0),
    "a bit of a tensor": lambda path: flip(path, 0.5),
    "last bit": lambda path: flip(path, 1.0),
    "zeros of its size": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone, its manifest left": lambda path: path.rename(path.with_suffix(".elsewhere")),
    "a folder": lambda path: replaced_by(path, Path.mkdir),
    "a link to itself": lambda path: replaced_by(path, lambda p: p.symlink_to(p)),
    "a link to nothing": lambda path: replaced_by(path, lambda p: p.symlink_to("absent")),
    "no manifest": lambda path: path.with_suffix(MANIFEST).unlink(),
    "an empty manifest": lambda path: path.with_suffix(MANIFEST).write_bytes(b""),
    "a manifest that is a list": lambda path: path.with_suffix(MANIFEST).write_text("[]"),
    "a manifest that is no text": lambda path: path.with_suffix(MANIFEST).write_bytes(b"\xff\xfe{"),
    "the manifest of another": lambda path: shutil.copy(
        path_of(path.parent, 1).with_suffix(MANIFEST), path.with_suffix(MANIFEST)
    ),
    "a wrong hash": lambda path: path.with_suffix(MANIFEST).write_text(
        json.dumps({**json.loads(path.with_suffix(MANIFEST).read_text()), "sha256": "0" * 64})
    ),
    "no archive, vouched for": lambda path: rewrite(path, b"no archive at all"),
    "a list, vouched for": lambda path: resave(path, [1, 2]),
    "another dictionary, vouched for": lambda path: resave(path, {"weights": torch.zeros(2)}),
    "another step, vouched for": lambda path: resave(path, content(1)),
    "code, vouched for": lambda path: resave(path, Payload(path.with_name("ran"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_falls_back_and_says_so(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    DAMAGES[damage](path)
    found = find_newest(tmp_path)
    assert newest_step(tmp_path) == 1
    if damage != "gone, its manifest left":
        assert len(found.notes) == 1
        assert found.notes[0].startswith("step-00000002.pt was passed over: ")
    assert not (tmp_path / "ran").exists()
    set_damaged_aside(found)
    save(tmp_path, 2)
    assert newest_step(tmp_path) == 2


def test_what_a_killed_save_left_is_swept(tmp_path: Path) -> None:
    good = save(tmp_path, 1)
    unfinished = path_of(tmp_path, 2)
    unfinished.write_bytes(b"whole, but nobody vouches for it")
    (tmp_path / ".step-00000003.pt.77.writing").write_bytes(b"half")
    path_of(tmp_path, 4).with_suffix(".json").write_text("{}")
    assert sweep_unfinished(tmp_path) == [unfinished]
    assert sorted(tmp_path.iterdir()) == [good.with_suffix(".json"), good]
    assert sweep_unfinished(tmp_path / "absent") == []


def test_a_first_save_that_was_killed_does_not_bar_the_run(tmp_path: Path) -> None:
    path_of(tmp_path, 2).write_bytes(b"whole, but nobody vouches for it")
    assert sweep_unfinished(tmp_path) == [path_of(tmp_path, 2)]
    assert find_newest(tmp_path).notes == []


def test_checkpoints_that_lost_their_manifests_are_not_swept(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step).with_suffix(".json").unlink()
    assert sweep_unfinished(tmp_path) == []
    with pytest.raises(RunError, match="no checkpoint verifies"):
        set_damaged_aside(find_newest(tmp_path))


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    found = find_newest(tmp_path / "absent")
    assert (found.newest, found.notes) == (None, [])
    set_damaged_aside(found)


def test_damaged_ones_never_push_out_a_good_one(tmp_path: Path) -> None:
    for step in (80, 120):
        save(tmp_path, step).write_bytes(b"damaged")
    with pytest.raises(RunError, match="no checkpoint verifies"):
        set_damaged_aside(find_newest(tmp_path))
    save(tmp_path, 40)
    assert newest_step(tmp_path) == 40
    assert len(list(tmp_path.glob("*.damaged"))) == 2


def test_a_newer_versions_checkpoint_is_not_taken_for_damaged(tmp_path: Path) -> None:
    VerifiedCheckpoints().save_checkpoint({**content(3), "format": FORMAT + 1}, path_of(tmp_path, 3))
    with pytest.raises(RunError, match="made by a newer version"):
        find_newest(tmp_path)


def test_an_environment_that_lets_checkpoints_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(RunError, match="unset it"):
        find_newest(tmp_path)


def test_a_save_that_does_not_read_back_keeps_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    monkeypatch.setattr(checkpoints, "digest_of", lambda path: (path.stat().st_size, "0" * 64))
    with pytest.raises(RunError, match="read back: its SHA-256"):
        save(tmp_path, 3)
    monkeypatch.undo()
    assert path_of(tmp_path, 1).exists()
    path_of(tmp_path, 3).unlink()
    assert newest_step(tmp_path) == 2
