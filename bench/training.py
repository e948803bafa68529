"""Does rendering rule a training run? CPU time of one toybox example against its training step, at equal N.

One process, one thread, process CPU time, minimum of a few repeats, both in the same run; the ratio is what counts.
Rendering should take at most a quarter of the step.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable
from pathlib import Path

import torch

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Example
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe import check_recipe, load_recipe
from sigma_framework.training.launch import objective_of

BATCH, REPEATS = 4, 3
RECIPE = Path(__file__).parents[1] / "recipes" / "curriculum.yaml"


def seconds(work: Callable[[], object]) -> float:
    """Smallest process CPU time of a few calls."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Prints one line per number of subjects."""
    torch.set_num_threads(1)
    host = PluginHost.discover()
    objective = objective_of(check_recipe(load_recipe(RECIPE), host), host)
    parameters = list(objective.trainable_parameters().values())
    print(f"{'N':>3} {'render ms':>10} {'step ms':>9} {'ratio':>6}   per example, batch {BATCH}")
    for count in (1, 4, 10):
        source = ToyboxSource(ToyboxConfig(min_subjects=count, max_subjects=count))
        examples: list[Example] = []
        render = seconds(lambda source=source, examples=examples: examples.extend(source[i] for i in range(BATCH)))

        def step(examples: list[Example] = examples) -> None:
            generators = [torch.Generator().manual_seed(k) for k in range(BATCH)]
            loss = objective.loss(examples[:BATCH], generators).mean()
            torch.autograd.grad(loss, parameters)

        trained = seconds(step)
        print(f"{count:>3} {render / BATCH * 1e3:>10.1f} {trained / BATCH * 1e3:>9.1f} {render / trained:>6.2f}")


if __name__ == "__main__":
    main()
