"""The launch lines of docs/scale.md that need one machine alone: Lightning's own start of processes, and torchrun."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "stages.s1.steps=2", "stages.s2.steps=1", "stages.s3.steps=1", "train.batch_size=2", "train.validation_scenes=1",
    "train.grid_scenes=1", "train.grid_steps=1", "train.threads=1", "train.devices=2",
)  # fmt: skip


@pytest.fixture
def sigma_run(tmp_path: Path) -> Path:
    """The command as pip installs it; Lightning starts the same file again for the other processes."""
    script = tmp_path / "sigma-run"
    script.write_text("from sigma_framework.cli import run_main\n\nrun_main()\n")
    return script


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_are_started_and_report_once(
    tmp_path: Path, sigma_run: Path, free_port: Callable[[], str], launcher: str
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    started = subprocess.run(
        [
            sys.executable,
            *(torchrun if launcher == "torchrun" else []),
            str(sigma_run),
            str(ROOT / "recipes" / "curriculum.yaml"),
            *SMALL,
            f"run.dir={tmp_path / 'run'}",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert started.returncode == 0, started.stderr
    assert started.stdout.count("weights in ") == 1
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["loss"]] == ["1", "2", "3", "4"]
    assert (tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors").exists()
