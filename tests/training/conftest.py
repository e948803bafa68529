"""Small trainings, in this process or forked from a warm one that a test session has, and what they leave behind."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sigma_framework.progress import Silent
from sigma_framework.training.checkpoints import find_newest
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun

WARM_PROCESS = Path(__file__).with_name("warm_process.py")
STEPS = (5, 21)
"""Of a training's stages: one that is stopped a step into the second has 20 more before it."""


class Forks:
    """Starts trainings in processes of their own and waits for them."""

    def __init__(self) -> None:
        self._warm = subprocess.Popen(
            [sys.executable, str(WARM_PROCESS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, folder: Path, steps: tuple[int, ...], train: dict[str, Any], **more: Any) -> int:
        """Forks a training; returns its process id."""
        return int(self._ask({"folder": str(folder), "steps": steps, "train": train, **more})["pid"])

    def status(self, pid: int) -> int:
        """Waits; the exit code, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(int(self._ask({"wait": pid})["status"]))

    def run(self, folder: Path, steps: tuple[int, ...], train: dict[str, Any], **more: Any) -> int:
        """Starts and waits."""
        return self.status(self.start(folder, steps, train, **more))

    def close(self) -> None:
        """Ends the warm process; it has nothing to tidy up."""
        self._warm.kill()
        self._warm.communicate()

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps(job) + "\n")
        self._warm.stdin.flush()
        answer: dict[str, Any] = json.loads(self._warm.stdout.readline())
        return answer


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], str]:
    """Finds a port of this machine that nobody listens at."""

    def find() -> str:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return str(one.getsockname()[1])

    return find


class RunReader:
    """What a run left behind."""

    @staticmethod
    def losses(folder: Path) -> list[tuple[int, str]]:
        """(step, loss as written) of every logged step, replayed ones too; a line cut off by a kill is none."""
        path = folder / "metrics.csv"
        if not path.exists():
            return []
        with path.open() as file:
            return [(int(row["step"]), row["loss"]) for row in csv.DictReader(file) if row["loss"]]

    @staticmethod
    def weights(folder: Path) -> dict[str, torch.Tensor]:
        """Those of the newest checkpoint."""
        newest = find_newest(folder / "checkpoints").newest
        assert newest is not None
        return dict(newest.parameters)

    @staticmethod
    def step(folder: Path) -> int:
        """That of the newest checkpoint, 0 without one."""
        newest = find_newest(folder / "checkpoints").newest
        return newest.step if newest is not None else 0

    def same_weights(self, one: Path, other: Path) -> bool:
        """Bit for bit."""
        first, second = self.weights(one), self.weights(other)
        return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="session")
def reader() -> RunReader:
    return RunReader()


@pytest.fixture(scope="session")
def small_trainings() -> ModuleType:
    """The module that the warm process runs, in this process."""
    spec = importlib.util.spec_from_file_location(WARM_PROCESS.stem, WARM_PROCESS)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[WARM_PROCESS.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="session")
def training(small_trainings: ModuleType) -> Callable[..., TrainingRun]:
    """Makes what ``Forks.start`` starts, for this process to run."""

    def make(folder: Path, train: dict[str, Any], steps: tuple[int, ...] = STEPS, **more: Any) -> TrainingRun:
        made: TrainingRun = small_trainings.training({"folder": str(folder), "steps": steps, "train": train, **more})
        return made

    return make


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, training: Callable[..., TrainingRun]) -> Path:
    """What a run that nobody stopped left behind, with two examples a step and a checkpoint every three."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_training(training(folder, {"batch_size": 2, "checkpoint_every": 3}), Silent())
    return folder


class StopAfter(Silent):
    """Sends a signal to this process when so many steps are done, and keeps what people are told."""

    def __init__(self, step: int = -1, number: int = signal.SIGTERM) -> None:
        self.left, self.number = step, number
        self.notes: list[str] = []

    def advance(self, steps: int = 1, facts: str = "") -> None:
        self.left -= steps
        if self.left == 0:
            os.kill(os.getpid(), self.number)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def stop_after() -> type[StopAfter]:
    """``StopAfter``."""
    return StopAfter
