"""The result of a run counts when it is whole and of as many steps as the plan has."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from sigma_framework.errors import RunError
from sigma_framework.framework import Framework
from sigma_framework.progress import Silent
from sigma_framework.training import result
from sigma_framework.training.result import MARK, result_is_whole

ROOT = Path(__file__).parents[2]


class NoteKeeper(Silent):
    """What a run noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(folder: Path, steps: int = 1, allow: tuple[str, ...] = ()) -> list[str]:
    """A run of so many steps; what it noted."""
    small = [
        f"stages.s1.steps={steps}",
        "stages.s2.steps=1",
        "stages.s3.steps=1",
        "train.batch_size=1",
        "train.threads=1",
    ]
    small += ["train.validation_scenes=1", "train.grid_scenes=1", "train.grid_steps=1", f"run.dir={folder}"]
    framework = Framework.load(ROOT / "recipes" / "curriculum.yaml", small)
    framework.progress = progress = NoteKeeper()
    framework.run(allow=list(allow))
    return progress.notes


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "pytorch_lora_weights.safetensors").read_bytes()


def test_a_result_that_was_not_written_to_the_end_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of it, whatever is there by then."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(result, "write_learning_curve", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert weights(tmp_path)
    (tmp_path / "adapter" / "pytorch_lora_weights.safetensors").write_bytes(b"half")
    notes = train(tmp_path)
    assert "resuming at step 3 of 3" in notes
    assert len(weights(tmp_path)) > 1000
    assert json.loads((tmp_path / MARK).read_text()) == {"steps": 3, "result": "adapter"}
    assert any("finished after 3 steps" in note for note in train(tmp_path))


def test_a_longer_plan_does_not_take_the_earlier_result_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path)
    before = weights(tmp_path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sigma_framework.training.run.save_result", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, 2, ("stages",))
    assert weights(tmp_path) == before
    train(tmp_path, 2, ("stages",))
    assert weights(tmp_path) != before


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("I/O error: No space left on device")]
)
def test_a_result_that_cannot_be_written_is_told_with_the_way_on(tmp_path: Path, error: Exception) -> None:
    class Full:
        def save(self, folder: Path) -> None:
            raise error

    class Run:
        objective, folder, weights_folder, resume_line = Full(), tmp_path, tmp_path / "adapter", "sigma-run again"

    with pytest.raises(RunError, match=r"adapter: .* \(.*No space left on device\).* go on with: sigma-run again"):
        result.save_result(Run(), 3)  # type: ignore[arg-type]  # what it reads of one


def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    for text in ("", "[]", "{}", '{"steps": "many", "result": "adapter"}', '{"steps": 2, "result": "adapter"}'):
        (tmp_path / MARK).write_text(text)
        assert not result_is_whole(tmp_path, tmp_path / "adapter", 3)
    (tmp_path / MARK).write_text('{"steps": 3, "result": "adapter"}')
    assert result_is_whole(tmp_path, tmp_path / "adapter", 3)
