"""A run that is sent a signal saves, says how to go on, and goes on bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_framework.errors import RunInterrupted
from sigma_framework.progress import Silent
from sigma_framework.training import durable_file
from sigma_framework.training.run import run_training
from sigma_framework.training.signals import listen
from sigma_framework.training.training_run import TrainingRun

TRAIN = {"batch_size": 2, "checkpoint_every": 3}
"""As of the run that nobody disturbed."""


@pytest.fixture(autouse=True)
def hangup_arrives() -> Iterator[None]:
    """Also where the tests were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


# Where a signal arrives. Each sends it to this process once, from inside.


def once(number: int) -> Callable[[], None]:
    sent: list[int] = []

    def send() -> None:
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    return send


def during_a_step(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    _in_the_loss(run, lambda calls: torch.is_grad_enabled() and calls == 7, once(number))


def during_validation(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    _in_the_loss(run, lambda calls: not torch.is_grad_enabled() and calls > 5, once(number))


def _in_the_loss(run: TrainingRun, when: Callable[[int], bool], send: Callable[[], None]) -> None:
    plain, calls = run.objective.loss, []

    def loss(examples: Any, generators: Any) -> torch.Tensor:
        calls.append(len(examples))
        losses: torch.Tensor = plain(examples, generators)
        if when(len(calls)):
            send()
        return losses

    run.objective.loss = loss  # type: ignore[method-assign]  # the loss of this one objective, which sends the signal


def to_the_whole_group(run: TrainingRun, _: pytest.MonkeyPatch, number: int) -> None:
    """As Ctrl-C and schedulers send it: to the processes that load data too."""

    def send() -> None:
        workers = [str(worker.pid) for worker in multiprocessing.active_children()]
        assert workers
        subprocess.run(["kill", f"-{number}", *workers], check=True)  # not from the parent, which workers obey
        time.sleep(0.2)  # a worker that dies of it has died before the parent looks
        os.kill(os.getpid(), number)

    _in_the_loss(run, lambda calls: torch.is_grad_enabled() and calls == 7, send)


def during_a_save(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    plain, send = os.fsync, once(number)

    def fsync(descriptor: int) -> None:
        send()
        plain(descriptor)

    monkeypatch.setattr(durable_file.os, "fsync", fsync)


def while_waiting_for_data(run: TrainingRun, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The fourth step's data never come."""
    source, asked = run.sources["toy"], []
    plain = type(source).__getitem__

    def wait(self: Any, index: int) -> Any:
        asked.append(index)
        if len(asked) == 2 + 2 * 3 + 1:  # two of validation, two a step
            os.kill(os.getpid(), number)
            time.sleep(60)
        return plain(self, index)

    monkeypatch.setattr(type(source), "__getitem__", wait)


PLACES = [during_a_step, during_validation, during_a_save, while_waiting_for_data]
SENT = [
    *((place, signal.SIGTERM) for place in PLACES),
    *((during_a_step, number) for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)),
    *((to_the_whole_group, number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)),
]


@pytest.mark.parametrize(("place", "number"), SENT)
def test_a_signal_anywhere_saves_and_says_how_to_go_on(
    tmp_path: Path,
    training: Any,
    reader: Any,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Path,
    place: Any,
    number: int,
) -> None:
    train = {**TRAIN, "num_workers": 1 if place is to_the_whole_group else 0}
    run = training(tmp_path, train)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        place(run, patch, number)
        with pytest.raises(RunInterrupted, match="the state is saved; go on with: sigma-run again") as caught:
            run_training(run, Silent())
    assert caught.value.exit_code == 128 + number
    assert time.monotonic() - began < 45
    assert 0 < reader.step(tmp_path) == reader.losses(tmp_path)[-1][0] < reader.step(undisturbed)
    run_training(training(tmp_path, train), Silent())
    assert reader.same_weights(undisturbed, tmp_path)
    assert reader.losses(undisturbed) == reader.losses(tmp_path)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_second_interrupt_in_a_save_stops_at_once(
    tmp_path: Path, training: Any, reader: Any, monkeypatch: pytest.MonkeyPatch, undisturbed: Path, call: str
) -> None:
    """torch's writer turns what its sink raises into an error of its own; the exit code is that of the signal."""
    plain, calls = getattr(os, call), []

    def interrupted(*arguments: Any) -> Any:
        calls.append(call)
        if len(calls) == 3 and call == "write":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        if len(calls) == 5 and call == "fsync":  # of the second checkpoint's file
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(durable_file.os, call, interrupted)
        with pytest.raises(RunInterrupted, match="stopped at once") as caught:
            run_training(training(tmp_path, TRAIN), Silent())
    assert caught.value.exit_code == 130
    assert reader.step(tmp_path) == (3 if call == "fsync" else 0)
    assert not list((tmp_path / "checkpoints").glob(".*"))
    run_training(training(tmp_path, TRAIN), Silent())
    assert reader.same_weights(undisturbed, tmp_path)


def test_a_signal_before_the_first_step_is_followed_too(
    tmp_path: Path, training: Any, reader: Any, undisturbed: Path
) -> None:
    """In the validation that a run begins with: nothing is learned yet, and the run begins again."""
    run = training(tmp_path, TRAIN)
    _in_the_loss(run, lambda calls: calls == 1, once(signal.SIGTERM))
    with pytest.raises(RunInterrupted) as caught:
        run_training(run, Silent())
    assert caught.value.exit_code == 143
    assert reader.step(tmp_path) == 0
    run_training(training(tmp_path, TRAIN), Silent())
    assert reader.same_weights(undisturbed, tmp_path)
    assert reader.losses(undisturbed) == reader.losses(tmp_path)


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    got: list[int] = []
    try:
        restore = listen(got.append)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        restore()
        assert got == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_slurm_is_asked_to_start_the_job_again(
    tmp_path: Path, training: Any, stop_after: Any, monkeypatch: pytest.MonkeyPatch, reader: Any
) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "scontrol"
    command.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with pytest.raises(RunInterrupted, match="job 4711 is requeued"):
        run_training(training(tmp_path / "run", TRAIN), stop_after(2, signal.SIGUSR1))
    assert asked.read_text() == "requeue 4711\n"
    assert reader.step(tmp_path / "run") == 2
