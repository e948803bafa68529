"""Two gloo processes on the CPU learn what one does with twice the batch, and hand a run over to one another."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_backbones.pocket_training.architecture import build_pipeline
from sigma_backbones.pocket_training.options import PocketSizes

TRAIN = {"batch_size": 4, "checkpoint_every": 100}
STEPS = (12, 8)


@pytest.fixture
def start_two(forks: Any, free_port: Callable[[], str]) -> Callable[..., list[int]]:
    """Starts both processes of a run, as a launcher would; gives their ids."""

    def start(folder: Path, train: dict[str, Any] = TRAIN, **more: Any) -> list[int]:
        job = {"steps": STEPS, "mood": False, **more}
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "NODE_RANK": "0", "WORLD_SIZE": "2"}
        return [
            forks.start(folder, train={**train, "devices": 2}, environment={**shared, "LOCAL_RANK": str(rank)}, **job)
            for rank in range(2)
        ]

    return start


def stop_after(folder: Path, steps: int, pid: int, reader: Any) -> None:
    """SIGTERM to one process once so many steps are logged."""
    since = time.monotonic()
    while len(reader.losses(folder)) < steps and time.monotonic() - since < 600:
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)


def seen(folder: Path) -> list[str]:
    """Every example that was trained on, over all processes, sorted."""
    return sorted(key for path in folder.glob("seen-*.txt") for key in path.read_text().split())


def messages(folder: Path) -> str:
    path = folder / "messages.txt"
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, forks: Any) -> Path:
    """One process, the whole batch."""
    folder = tmp_path_factory.mktemp("one")
    assert forks.run(folder, STEPS, TRAIN, mood=False) == 0, messages(folder)
    return folder


def test_two_processes_learn_what_one_does(
    tmp_path: Path, forks: Any, start_two: Any, reader: Any, whole: Path
) -> None:
    pids = start_two(tmp_path)
    assert [forks.status(pid) for pid in pids] == [0, 0], messages(tmp_path)
    one = [float(loss) for _, loss in reader.losses(whole)]
    two = [float(loss) for _, loss in reader.losses(tmp_path)]
    assert len(two) == sum(STEPS)
    assert two[0] == pytest.approx(one[0], rel=1e-6)
    assert two == pytest.approx(one, rel=1e-5)
    assert seen(tmp_path) == seen(whole)
    assert len(list((tmp_path / "checkpoints").glob("*.pt"))) == 2


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FLUX.1 Kontext whose output and gates are not zero, in float32."""
    sizes = PocketSizes(
        heads=2, axes=(4, 6, 6), double_blocks=2, single_blocks=2, text_width=16, pooled_width=16, text_layers=2,
        text_heads=2, vae_width=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("flux")
    pipeline = build_pipeline(0, sizes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in pipeline.transformer.parameters():
            if not parameter.any():
                parameter.data.normal_(std=0.2)
    pipeline.save_pretrained(folder)
    return folder


def test_processes_that_share_the_frozen_weights_learn_the_same(
    tmp_path: Path, forks: Any, start_two: Any, reader: Any, flux: Path
) -> None:
    """Saved by two that share, gone on with by one that does not."""
    job = {"steps": (2, 2), "mood": False, "weights": str(flux)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert forks.run(tmp_path / "one", train=TRAIN, **job) == 0, messages(tmp_path / "one")
    pids = start_two(tmp_path / "two", {**TRAIN, "strategy": "fsdp"}, **{**job, "steps": (2,)})
    assert [forks.status(pid) for pid in pids] == [0, 0], messages(tmp_path / "two")
    assert reader.step(tmp_path / "two") == 2
    mine, whole = map(float, re.findall(r"holds (\S+) of (\S+) MB", messages(tmp_path / "two"))[0])
    assert mine < 0.7 * whole, "half of each block; embeddings and the VAE are whole"
    assert list((tmp_path / "two" / "grids").iterdir())
    assert (tmp_path / "two" / "adapter" / "pytorch_lora_weights.safetensors").exists()
    assert forks.run(tmp_path / "two", train=TRAIN, **job) == 0, messages(tmp_path / "two")
    one, two = ([float(loss) for _, loss in reader.losses(tmp_path / name)] for name in ("one", "two"))
    assert two[0] == pytest.approx(one[0], rel=1e-6)
    assert two == pytest.approx(one, rel=1e-5)
    assert one[0] != one[1]


def test_a_run_goes_from_two_processes_to_one_and_back(
    tmp_path: Path, forks: Any, start_two: Any, reader: Any, whole: Path
) -> None:
    pids = start_two(tmp_path)
    stop_after(tmp_path, 3, pids[1], reader)  # one of them alone is told
    assert [forks.status(pid) for pid in pids] == [143, 143], messages(tmp_path)
    first = reader.step(tmp_path)
    assert 3 <= first < 12

    pid = forks.start(tmp_path, STEPS, TRAIN, mood=False)
    stop_after(tmp_path, first + 3, pid, reader)
    assert forks.status(pid) == 143, messages(tmp_path)
    assert first + 3 <= reader.step(tmp_path) < sum(STEPS)

    assert [forks.status(pid) for pid in start_two(tmp_path)] == [0, 0], messages(tmp_path)
    one = [float(loss) for _, loss in reader.losses(whole)]
    assert [float(loss) for _, loss in reader.losses(tmp_path)] == pytest.approx(one, rel=1e-5)
    assert seen(tmp_path) == seen(whole)
