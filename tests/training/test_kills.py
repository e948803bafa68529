"""kill -9 at random instants: no checkpoint is lost, and every loss is that of the run that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("SIGMA_KILLS", "20"))
"""20 in ``make test``, 200 in ``make soak``."""
TRAIN = {"batch_size": 2, "checkpoint_every": 2, "num_workers": 0}
PER_KILL = 4
"""Steps to go on for each kill, so that the run outlasts them all."""


def test_killed_runs_lose_nothing(tmp_path: Path, forks: Any, reader: Any) -> None:
    steps = (KILLS * PER_KILL // 2, KILLS * PER_KILL // 2)
    assert forks.run(tmp_path / "whole", steps, TRAIN) == 0
    whole = dict(reader.losses(tmp_path / "whole"))
    assert sorted(whole) == list(range(1, sum(steps) + 1))

    folder, rng, killed = tmp_path / "killed", random.Random(5), 0
    while killed < KILLS:
        pid = forks.start(folder, steps, TRAIN)
        wait_for_an_instant(folder, rng, reader)
        os.kill(pid, signal.SIGKILL)
        assert forks.status(pid) == -signal.SIGKILL, (folder / "messages.txt").read_text()
        killed += 1
        lines = reader.losses(folder)
        reached = lines[-1][0] if lines else 0
        assert reader.step(folder) >= reached - 2 * TRAIN["checkpoint_every"]
    assert forks.run(folder, steps, TRAIN) == 0

    replayed = reader.losses(folder)
    assert len(replayed) > len(whole)
    assert [(step, loss) for step, loss in replayed if whole[step] != loss] == []
    assert {step for step, _ in replayed} == set(whole)
    assert reader.same_weights(tmp_path / "whole", folder)
    assert not list((folder / "checkpoints").glob(".*"))
    assert len(list((folder / "checkpoints").iterdir())) == 4, "two checkpoints with their manifests"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_of_a_job_is_not_its_workers_end(
    tmp_path: Path, forks: Any, reader: Any, number: int
) -> None:
    """Ctrl-C reaches the data workers too, and so do a scheduler's signals; here the run waits for them."""
    job = {"steps": (12,), "train": {**TRAIN, "checkpoint_every": 100, "num_workers": 2}, "slow": True}
    pid = forks.start(tmp_path / "stopped", **job)
    since = time.monotonic()
    while len(reader.losses(tmp_path / "stopped")) < 4 and time.monotonic() - since < 600:
        time.sleep(0.002)
    os.killpg(pid, number)
    assert forks.status(pid) == 128 + number, (tmp_path / "stopped" / "messages.txt").read_text()
    assert reader.step(tmp_path / "stopped") >= 4
    for name in ("stopped", "whole"):
        assert forks.run(tmp_path / name, **job) == 0
    assert reader.losses(tmp_path / "stopped") == reader.losses(tmp_path / "whole")
    assert reader.same_weights(tmp_path / "stopped", tmp_path / "whole")


def wait_for_an_instant(folder: Path, rng: random.Random, reader: Any) -> None:
    """Until one to four more steps are logged and a moment more; one time in four any moment of the start-up.

    Progress, not time, sets the pace, so that slow machines are killed at as many different places as fast ones.
    """
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.0, 0.3))
        return
    path, lines = folder / "metrics.csv", rng.randint(1, 4)
    before, since = len(reader.losses(folder)), time.monotonic()
    while time.monotonic() - since < 600:
        if path.exists() and len(reader.losses(folder)) >= before + lines:
            break
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.02))
