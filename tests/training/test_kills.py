"""kill -9 at random instants: no checkpoint is lost, and every loss is that of the run that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

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
