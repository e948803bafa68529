"""Runs that stop anywhere and go on are those that nobody stopped, bit for bit."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sigma_framework.errors import RunError, RunInterrupted
from sigma_framework.progress import Silent
from sigma_framework.training import checkpoints, durable_file, lightning_module
from sigma_framework.training.average import RunningAverage
from sigma_framework.training.checkpoints import bytes_of, path_of
from sigma_framework.training.position import seed_ambient
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun

ADAMW = {"batch_size": 2, "checkpoint_every": 100}
PRODIGY = {**ADAMW, "optimizer": {"type": "prodigy", "d0": 1e-4}}
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "adamw": (ADAMW, (3, 4, 5, 6)),
    "prodigy": (PRODIGY, (3, 4, 5, 6)),
    "prodigy in slices": ({**ADAMW, "optimizer": {"type": "prodigy", "d0": 1e-4, "slice_p": 11}}, (5,)),
    "accumulation": ({**ADAMW, "batch_size": 4, "accumulate": 2}, (4, 5)),
    "workers": ({**PRODIGY, "num_workers": 2}, (6,)),
    "bf16": ({**PRODIGY, "precision": "bf16"}, (4, 5)),
    "fused": ({**ADAMW, "optimizer": {"type": "adamw", "lr": 1e-2, "fused": True}}, (5,)),
    "muon": ({**ADAMW, "optimizer": {"type": "muon", "lr": 1e-2}}, (5,)),
    "average": ({**ADAMW, "ema_decay": 0.9}, (4,)),
    "token budget": ({**ADAMW, "tokens_per_batch": 200}, (4,)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, training: Any, stop_after: Any, reader: Any, case: str
) -> None:
    train, stops = CASES[case]
    goes_on_bit_for_bit(tmp_path, reader, lambda folder: training(folder, train), stop_after, stops)


def goes_on_bit_for_bit(
    tmp_path: Path, reader: Any, make: Callable[[Path], TrainingRun], stop_after: Any, stops: tuple[int, ...]
) -> None:
    run_training(make(tmp_path / "whole"), Silent())
    for stop in stops:
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(RunInterrupted):
            run_training(make(folder), stop_after(stop))
        assert reader.step(folder) == stop
        run_training(make(folder), Silent())
        assert reader.same_weights(tmp_path / "whole", folder)
        assert reader.losses(tmp_path / "whole") == reader.losses(folder)
        assert adapter(tmp_path / "whole") == adapter(folder)


def adapter(folder: Path) -> dict[str, bytes]:
    """The result's tensors, bit for bit; the order of a file's metadata is not fixed."""
    (path,) = (folder / "adapter").glob("*.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ADAMW, {"type": "adamw", "lr": 1e-2, "weight_decay": 0.9}),
        (ADAMW, {"type": "adamw", "lr": 1e-2, "betas": (0.5, 0.6)}),
    ],
)
def test_options_of_the_optimizer_that_are_accepted_on_resume_take_effect(
    tmp_path: Path, training: Any, stop_after: Any, reader: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """They are stored with its state, too."""
    for name, train in (("same", before), ("changed", {**before, "optimizer": after})):
        with pytest.raises(RunInterrupted):
            run_training(training(tmp_path / name, before, (12,)), stop_after(4))
        run_training(training(tmp_path / name, train, (12,)), Silent())
    assert not reader.same_weights(tmp_path / "same", tmp_path / "changed")


def test_what_modules_record_goes_on_too(tmp_path: Path, training: Any, stop_after: Any, reader: Any) -> None:
    def make(folder: Path) -> TrainingRun:
        run = training(folder, {**ADAMW, "validate_every": 3})
        recorded(run)
        return run

    goes_on_bit_for_bit(tmp_path, reader, make, stop_after, (4, 5))


def recorded(run: TrainingRun) -> torch.nn.BatchNorm1d:
    """Gives the objective a module that records a running mean, as a VAE's or a judge's does, and learns from it."""
    record = torch.nn.BatchNorm1d(1, affine=False, momentum=0.3)
    loss, modules = run.objective.loss, run.objective.modules

    def learning(examples: Any, generators: Any) -> torch.Tensor:
        losses: torch.Tensor = loss(examples, generators)
        record(losses.detach()[:, None].expand(-1, 2).reshape(-1, 1))
        assert record.running_mean is not None
        return losses * (1 + record.running_mean)

    run.objective.loss = learning  # type: ignore[method-assign]
    run.objective.modules = lambda: [*modules(), record]  # type: ignore[method-assign]
    return record


def test_validation_and_bad_steps_leave_no_trace_in_what_modules_record(tmp_path: Path, training: Any) -> None:
    means = []
    for name, train in (("plain", ADAMW), ("validated", {**ADAMW, "validate_every": 1})):
        run = training(tmp_path / name, train, (6,))
        record = recorded(run)
        run_training(run, Silent())
        means.append(record.running_mean)
    assert torch.equal(means[0], means[1])
    run = training(tmp_path / "bad", ADAMW, (6,))
    Poisoned(run, {4}, float("nan"))
    record = recorded(run)
    run_training(run, Silent())
    assert torch.isfinite(record.running_mean).all()


def test_a_checkpoint_from_before_buffers_is_read_and_told(
    tmp_path: Path, training: Any, stop_after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(tmp_path, ADAMW)
    recorded(run)
    plain = checkpoints._pack
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_pack", lambda content, sink: plain({**content, "buffers": None}, sink))
        with pytest.raises(RunInterrupted):
            run_training(run, stop_after(4))
    run, progress = training(tmp_path, ADAMW), stop_after()
    recorded(run)
    run_training(run, progress)
    assert any("holds no buffers" in note for note in progress.notes)


def test_data_that_changed_in_between_are_refused_until_they_are_accepted(
    tmp_path: Path, training: Any, stop_after: Any, reader: Any
) -> None:
    """The plan is drawn from what the sources have: with another example in them all later steps are others."""
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path, ADAMW), stop_after(4))
    run = training(tmp_path, ADAMW)
    run = replace(run, sources={"toy": replace(run.sources["toy"], length=61)})  # type: ignore[type-var]  # a dataclass
    told = r"datasources\.toy: found 61 examples, \w+ .* begun with 60 examples, \w+: .*--allow datasources\.toy"
    with pytest.raises(RunError, match=told):
        run_training(run, Silent())
    with pytest.raises(RunInterrupted):
        run_training(replace(run, allow=("datasources",)), stop_after(2))
    assert reader.step(tmp_path) == 6
    run_training(run, Silent())  # the newest checkpoint is of the new data


def test_a_run_without_room_for_two_checkpoints_does_not_begin(
    tmp_path: Path, training: Any, stop_after: Any, monkeypatch: pytest.MonkeyPatch, reader: Any
) -> None:
    """One that goes on needs room for the next one alone: the earlier ones are there already."""
    usage, needed = shutil.disk_usage(tmp_path), bytes_of({})

    def free(count: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(count * needed)))

    free(9)
    with pytest.raises(RunError, match=r"needs about 1\d MB, 9 MB are free"):
        run_training(training(tmp_path, ADAMW), Silent())
    assert not reader.losses(tmp_path)
    free(12)
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path, {**ADAMW, "checkpoint_every": 2}), stop_after(5))
    free(1.5)
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path, ADAMW), stop_after(1))
    free(0.25)
    with pytest.raises(RunError, match=r"0 MB are free"):
        run_training(training(tmp_path, ADAMW), Silent())


def test_the_average_is_the_result_and_not_what_is_trained(tmp_path: Path, training: Any, reader: Any) -> None:
    for name, decay in (("last", None), ("average", 0.9)):
        run_training(training(tmp_path / name, {**ADAMW, "ema_decay": decay}, (3,)), Silent())
    assert reader.same_weights(tmp_path / "last", tmp_path / "average")
    assert adapter(tmp_path / "last") != adapter(tmp_path / "average")


def test_an_average_follows_its_formula() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    average = RunningAverage({"w": weight}, 0.25, {})
    with torch.no_grad():
        weight.fill_(1.0)
    average.update(1)  # m = 2 / 11
    average.update(1000)  # m = 0.25
    with average.in_place():
        assert weight.tolist() == pytest.approx([1 - 0.25 * 2 / 11] * 2)
    assert weight.tolist() == [1.0, 1.0]


def test_leaving_out_the_generators_of_layers_would_be_noticed(
    tmp_path: Path, training: Any, stop_after: Any, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative of the test above: what layers draw by themselves must follow from the position too."""
    monkeypatch.setattr(lightning_module, "seed_ambient", lambda *_: None)
    seed_ambient(0, 0, 0, 0)
    run_training(training(tmp_path / "whole", ADAMW), Silent())
    seed_ambient(0, 0, 0, 0)
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path / "parts", ADAMW), stop_after(4))
    seed_ambient(0, 0, 0, 0)
    run_training(training(tmp_path / "parts", ADAMW), Silent())
    whole, parts = reader.losses(tmp_path / "whole"), reader.losses(tmp_path / "parts")
    assert whole[:4] == parts[:4]
    assert sum(one != other for one, other in zip(whole[4:], parts[4:], strict=True)) > 15


def test_parts_of_a_step_give_its_gradient(tmp_path: Path, training: Any, reader: Any) -> None:
    """Without mood: what layers draw by themselves differs between one part and two."""
    for name, parts in (("whole", 1), ("parts", 2)):
        train = {**ADAMW, "batch_size": 4, "accumulate": parts}
        run_training(training(tmp_path / name, train, (6,), mood=False), Silent())
    whole, parts = (reader.losses(tmp_path / name) for name in ("whole", "parts"))
    assert [step for step, _ in parts] == list(range(1, 7))
    assert [float(loss) for _, loss in parts] == pytest.approx([float(loss) for _, loss in whole], rel=1e-5)


def test_a_run_falls_back_from_a_damaged_checkpoint_and_learns_the_same(
    tmp_path: Path, training: Any, stop_after: Any, reader: Any, undisturbed: Path
) -> None:
    train = {**ADAMW, "checkpoint_every": 3}
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path, train), stop_after(7))
    newest = path_of(tmp_path / "checkpoints", 7)
    newest.write_bytes(newest.read_bytes()[:-100])
    progress = stop_after()
    run_training(training(tmp_path, train), progress)
    assert progress.notes[0].startswith("step-00000007.pt was passed over: found ")
    assert "resuming at step 6 of 26" in progress.notes
    assert newest.with_name("step-00000007.pt.damaged").exists()
    assert reader.same_weights(undisturbed, tmp_path)
    assert sorted(set(reader.losses(tmp_path))) == sorted(reader.losses(undisturbed))


def test_a_disk_that_fills_up_ends_a_run_that_goes_on_when_there_is_room(
    tmp_path: Path, training: Any, reader: Any, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    train, calls = {**ADAMW, "checkpoint_every": 3}, []

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 5:  # two checkpoints have a file and a manifest each
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(durable_file.os, "replace", replace)
        with pytest.raises(RunError, match=r"step-00000006\.pt: .*earlier ones are intact \(No space left on device\)"):
            run_training(training(tmp_path, train), Silent())
    assert reader.step(tmp_path) == 5
    run_training(training(tmp_path, train), Silent())
    assert reader.same_weights(undisturbed, tmp_path)
    assert sorted(set(reader.losses(tmp_path))) == sorted(reader.losses(undisturbed))


class Poisoned:
    """Makes the loss, or only the gradient, of chosen steps unfit."""

    def __init__(self, run: TrainingRun, steps: set[int], factor: float, *, gradient_only: bool = False) -> None:
        self.plain, self.steps, self.calls = run.objective.loss, steps, 0
        self.factor, self.gradient_only = factor, gradient_only
        run.objective.loss = self  # type: ignore[method-assign,assignment]

    def __call__(self, examples: Any, generators: Any) -> torch.Tensor:
        losses: torch.Tensor = self.plain(examples, generators)
        if not torch.is_grad_enabled():
            return losses
        self.calls += 1
        if self.calls not in self.steps:
            return losses
        if self.gradient_only:
            losses.register_hook(lambda gradient: gradient * float("inf"))
            return losses
        return losses * self.factor


@pytest.mark.parametrize(("factor", "gradient_only"), [(float("nan"), False), (float("inf"), False), (1.0, True)])
def test_a_step_that_is_not_finite_updates_nothing(
    tmp_path: Path, training: Any, stop_after: Any, reader: Any, factor: float, gradient_only: bool
) -> None:
    progress = stop_after(4)
    run = training(tmp_path / "poisoned", ADAMW)
    Poisoned(run, {4}, factor, gradient_only=gradient_only)
    with pytest.raises(RunInterrupted):
        run_training(run, progress)
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path / "before", ADAMW), stop_after(3))
    assert reader.step(tmp_path / "poisoned") == 4
    assert reader.same_weights(tmp_path / "before", tmp_path / "poisoned")
    keys = (tmp_path / "poisoned" / "seen-0.txt").read_text().splitlines()[3].replace(" ", ", ")
    (told,) = [note for note in progress.notes if note.startswith("step 4: ")]
    assert f" on {keys}; nothing was updated" in told


def test_too_many_bad_steps_end_the_run(tmp_path: Path, training: Any) -> None:
    run = training(tmp_path, {**ADAMW, "max_bad_steps": 2})
    Poisoned(run, {3, 6, 8}, float("nan"))
    with pytest.raises(RunError, match=r"step 8: the loss is nan on toy-.*train.max_bad_steps is 2"):
        run_training(run, Silent())


def test_a_spike_is_named_and_not_mistaken(tmp_path: Path, training: Any, stop_after: Any) -> None:
    progress = stop_after()
    run = training(tmp_path, ADAMW, (30,))
    Poisoned(run, {25}, 1000.0)
    run_training(run, progress)
    keys = (tmp_path / "seen-0.txt").read_text().splitlines()[24].replace(" ", ", ")
    (told,) = [note for note in progress.notes if "lately" in note]
    assert told.startswith("step 25: the loss is ")
    assert told.endswith(f" on {keys}")


def test_a_step_looks_at_the_device_once(tmp_path: Path, training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the update is decided, and nowhere else in the module and what watches it."""
    run = training(tmp_path, {**ADAMW, "gradient_clip": 0.5}, (6,))
    looks: list[str] = []
    weight = torch.zeros(4, requires_grad=True)
    monkeypatch.setattr(run.objective, "trainable_parameters", lambda: {"w": weight})
    monkeypatch.setattr(run.objective, "modules", lambda: [torch.nn.ParameterList([weight])])

    def loss(examples: Any, generators: Any) -> torch.Tensor:
        return ((weight - 1) ** 2).mean().expand(len(examples))

    monkeypatch.setattr(run.objective, "loss", loss)
    monkeypatch.setattr(run.objective, "save", lambda folder: folder.mkdir())
    monkeypatch.setattr(run.objective, "pictures", lambda examples, seed: [[examples[0].target]])

    class Counting(Silent):
        def advance(self, steps: int = 1, facts: str = "") -> None:
            looks.append("step")

    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__bool__", "__int__"):
        plain = getattr(torch.Tensor, name)

        def look(self: torch.Tensor, *arguments: Any, _plain: Any = plain, _name: str = name) -> Any:
            if sys._getframe(1).f_globals["__name__"].startswith("sigma_framework."):
                looks.append(_name)
            return _plain(self, *arguments)

        monkeypatch.setattr(torch.Tensor, name, look)
    run_training(run, Counting())
    text = " ".join(looks)
    assert text.count("step") == 6
    between = text.split("step")[1:5]  # whole steps without a stage's begin or end
    assert [part.split() for part in between] == [["tolist"]] * 4
