"""A build for a test to kill: run as a program with the run folder; notes every unit of work in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sigma_framework.dataset_build import Build, Stage, run_build
from sigma_framework.progress import Silent
from sigma_framework.testing import ToySource

COUNT, WORKERS = 14, 2


@dataclass(frozen=True)
class Noting:
    """Writes its name and each record's key into a file, then brightens the target a little."""

    name: str
    notes: str
    seconds: float

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        for record in records:
            with open(self.notes, "a") as file:
                file.write(f"{self.name} {record['key']}\n")
            if note := os.environ.get("SIGMA_TEST_GPUS"):
                with open(note, "a") as file:
                    file.write(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}\n")
            time.sleep(self.seconds)
            if self.name == "second" and record["key"].endswith("-3"):
                continue
            noise = rng.integers(0, 3, record["target"].shape, dtype=np.uint8)
            yield {**record, "target": np.clip(record["target"], 0, 250) + noise, self.name: float(rng.random())}


def plan(notes: Path, seconds: float, workers: int) -> Build:
    names = ("first", "second")
    stages = [Stage(name=name, make=partial(Noting, name, str(notes), seconds)) for name in names]
    source = ToySource(length=COUNT, size_hw=(24, 24), identity_size=16)
    return Build(source=source, stages=stages, count=COUNT, seed=3, workers=workers, per_shard=4)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    run_build(plan(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])), folder, Silent())
    sys.stdout.flush()
    os._exit(0)
