"""Run folders: free numbers, setting aside, differing recipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sigma_framework import run_folder
from sigma_framework.errors import RunError
from sigma_framework.run_folder import differing_keys, held, next_number, read_recipe, set_aside, versions, write_record


def test_next_number_never_reuses(tmp_path: Path) -> None:
    assert next_number(tmp_path / "absent") == 0
    for name in ("0000.png", "0004.png", "0009.layout.png", "notes.png"):
        (tmp_path / name).touch()
    assert next_number(tmp_path) == 5


def test_setting_aside_keeps_every_earlier_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert set_aside(folder) is None
    for number in (1, 2):
        folder.mkdir()
        (folder / "mark").write_text(str(number))
        assert set_aside(folder) == tmp_path / f"run.{number}"
    assert [(tmp_path / f"run.{n}" / "mark").read_text() for n in (1, 2)] == ["1", "2"]


def test_a_folder_in_use_is_not_trained_in_twice(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from sigma_framework.run_folder import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    with pytest.raises(RunError, match=f"in use by process {other.pid}"), held(tmp_path):
        pass
    other.communicate("")
    with held(tmp_path):
        pass


def test_differing_keys_are_dotted_paths() -> None:
    old = {"train": {"lr": 1, "rank": 2}, "task": "train"}
    new = {"train": {"lr": 3, "rank": 2}, "task": "train", "scene": None, "images": 2}
    assert differing_keys(old, new) == ["images", "train.lr"]


def test_a_record_that_was_killed_while_it_was_written_bars_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file was the last one written, the same recipe may run there."""
    plain = run_folder._replace_text
    for last in (0, 1):
        folder, written = tmp_path / str(last), []

        def write(path: Path, text: str, written: list[str] = written, last: int = last) -> None:
            if len(written) == last:
                raise KeyboardInterrupt
            plain(path, text)
            written.append(path.name)

        monkeypatch.setattr(run_folder, "_replace_text", write)
        with pytest.raises(KeyboardInterrupt):
            write_record(folder, {"task": "train"}, {})
        run_folder.refuse_other_recipe(folder, {"task": "train"})


def test_record_names_versions(tmp_path: Path) -> None:
    write_record(tmp_path / "run", {"task": "train"}, versions([("acme", "1.0")]))
    assert (tmp_path / "run" / "resolved.yaml").read_text() == "task: train\n"
    assert read_recipe(tmp_path / "run") == {"task": "train"}
    assert '"acme": "1.0"' in (tmp_path / "run" / "versions.json").read_text()
