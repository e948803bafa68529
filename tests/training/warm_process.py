"""A process that has everything imported and forks small trainings: ``python warm_process.py``, one JSON job per line.

A job: {"folder": ..., "steps": [..], "train": {...}, "environment": {...}}, with "slow": true for data that take time;
the answer is {"pid": ...}, and when the training has ended {"status": ...}, its exit status as ``os.waitpid`` gives it,
one line per process, in the order of the jobs. The training's messages are appended to ``folder/messages.txt``, the
keys of its examples per step to ``folder/seen-<rank>.txt``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigma_framework import Backbone, Example, SigmaError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe.training_schema import OptimizerBlock, TrainBlock
from sigma_framework.testing import TinyBackbone, ToySource
from sigma_framework.training.adapter_objective import AdapterObjective, AdapterOptions, Granularity
from sigma_framework.training.curriculum import StagePlan, plan_batches
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun

OPTIONS = AdapterOptions(
    identity_size=16, channel_dropout=0.1, full_prompt_share=0.5, text_dropout=0.0,
    condition_dropout=0.0, guidance=None, timesteps="logit_normal", subject_loss_weight=0.0, rank=2, alpha=2.0,
    targets=None, picture_steps=1,
)  # fmt: skip


class Moody:
    """An adapter's objective whose loss also depends on the generators that layers draw from by themselves."""

    def __init__(self, inner: AdapterObjective, seen: Path) -> None:
        self.inner, self.seen = inner, seen
        self.trainable_parameters, self.modules = inner.trainable_parameters, inner.modules
        self.pictures, self.save, self.picture_titles = inner.pictures, inner.save, inner.picture_titles

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> torch.Tensor:
        losses = self.inner.loss(examples, generators)
        if torch.is_grad_enabled():
            with self.seen.open("a") as file:
                file.write(" ".join(example.key for example in examples) + "\n")
        mood = float(torch.rand(1)) + random.random() + float(np.random.random())
        return losses * (1 + 0.01 * mood)


def adapter_objective(backbone: Backbone, cache: EncodingCache | None = None) -> AdapterObjective:
    """Learns an adapter of any backbone, with boxes."""
    host = PluginHost.discover()
    box, sampler = host.resolve("control", "box2d"), host.resolve("sampler", "generate")
    return AdapterObjective(
        backbone,
        {"box2d": host.make(box, box.spec.config())},
        [Granularity(name="boxes", controls=("box2d",), weight=1.0)],
        host.make(sampler, sampler.spec.config()),
        OPTIONS,
        seed=1,
        cache=cache,
    )


def objective(folder: Path, mood: bool, weights: str | None = None) -> Any:
    """Of the tiny backbone, or of a small FLUX.1 Kontext, which has blocks."""
    backbone: Any = TinyBackbone()
    if weights is not None:
        host = PluginHost.discover()
        found = host.resolve("backbone", "flux_kontext")
        backbone = host.make(found, found.spec.config(weights=weights, device="cpu"))
    inner = adapter_objective(backbone)
    seen = folder / f"seen-{os.environ.get('LOCAL_RANK', '0')}.txt"
    made = Moody(inner, seen)
    if not mood:
        made.loss = _without_mood(inner, seen)  # type: ignore[method-assign]
    return made


def _without_mood(inner: AdapterObjective, seen: Path) -> Any:
    """Draws that depend on the first example of a process would differ between one process and two."""

    def loss(examples: Sequence[Example], generators: Sequence[torch.Generator]) -> torch.Tensor:
        if torch.is_grad_enabled():
            with seen.open("a") as file:
                file.write(" ".join(example.key for example in examples) + "\n")
        return inner.loss(examples, generators)

    return loss


class Slow(ToySource):
    """A source that its training always waits for."""

    def __getitem__(self, index: int) -> Example:
        time.sleep(0.03)
        return super().__getitem__(index)


class Messages(Silent):
    """Appends what people would be told to a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "messages.txt"

    def note(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text + "\n")


def training(job: dict[str, Any]) -> TrainingRun:
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    block = {"optimizer": {"type": "adamw", "lr": 1e-2}, "validation_scenes": 2, "grid_scenes": 1, **job["train"]}
    train = TrainBlock(**{**block, "threads": 1, "optimizer": OptimizerBlock(**block["optimizer"])})
    source = Slow if job.get("slow") else ToySource
    sources = {"toy": source(length=60, size_hw=(32, 32), identity_size=16)}
    stages = [
        StagePlan(name=f"s{number}", steps=steps, min_subjects=1, max_subjects=None, sources=("toy",))
        for number, steps in enumerate(job["steps"], 1)
    ]
    return TrainingRun(
        objective=objective(folder, job.get("mood", True), job.get("weights")),
        sources=sources,
        plan=plan_batches(stages, sources, {"toy": 1.0}, train.batch_size, 7, train.validation_scenes),
        folder=folder,
        weights_folder=folder / "adapter",
        recipe_yaml="task: train\n",
        options=train,
        hand_overs=("carry_d",) * len(stages),
        resume_line="sigma-run again",
    )


def child(job: dict[str, Any]) -> int:
    """One training; returns its exit code."""
    os.environ.update(job.get("environment", {}))
    progress = Messages(Path(job["folder"]))
    try:
        run_training(training(job), progress)
    except SigmaError as error:
        progress.note(str(error))
        return error.exit_code
    except BaseException:
        progress.note(traceback.format_exc())
        return 1
    return 0


def answer(what: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer({"status": os.waitpid(job["wait"], 0)[1]})
            continue
        Path(job["folder"]).mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # a group of its own, as a terminal or a scheduler gives a job
            os._exit(child(job))
        answer({"pid": pid})


if __name__ == "__main__":
    main()
