"""One warm process per test session, from which small trainings are forked."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_framework.training.checkpoints import find_newest


class Forks:
    """Starts trainings in processes of their own and waits for them."""

    def __init__(self) -> None:
        self._warm = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_process.py"))],
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
