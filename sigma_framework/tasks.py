"""What running a recipe means for each task: the work, its run folder, and the lines that tell people what was made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sigma_framework.errors import RunError
from sigma_framework.run_folder import set_aside
from sigma_framework.sweep import run_sweep

if TYPE_CHECKING:
    from sigma_framework.framework import Framework
    from sigma_framework.types import Result


def run_task(framework: Framework, fresh: bool, allow: Sequence[str]) -> list[str]:
    """Runs the recipe's task in its run folder.

    Args:
        framework: the recipe and its plugins.
        fresh: set an earlier run aside first.
        allow: keys in which a training recipe may differ from the run that is resumed.

    Returns:
        Lines that say what was made and where.

    Raises:
        RunError: the task is not part of this version, or the run cannot go on.
    """
    tasks: dict[str, Callable[[], list[str]]] = {
        "train": lambda: _train(framework, fresh, allow),
        "generate": lambda: _make_images(framework, fresh, framework.generate),
        "insert": lambda: _make_images(framework, fresh, framework.insert),
        "evaluate": lambda: _count(framework, fresh, framework.evaluate, "report.html"),
        "build": lambda: _count(framework, fresh, framework.build, "shards/manifest.json"),
        "sweep": lambda: _sweep(framework, fresh),
    }
    task = framework.recipe.task
    if task not in tasks:
        raise RunError(f"task: {task} is not part of this version; tasks: {', '.join(tasks)}")
    return tasks[task]()


def _make_images(framework: Framework, fresh: bool, make: Callable[..., Result]) -> list[str]:
    _start_anew(framework, fresh)
    result = make(save=True)
    return [f"wrote {path}" for path in result.paths] + [f"warning: {text}" for text in result.warnings]


def _train(framework: Framework, fresh: bool, allow: Sequence[str]) -> list[str]:
    outcome = framework.train(fresh, allow)
    lines = [
        f"{stage}: validation loss {begin:.4f} -> {end:.4f} ({100 * (end / begin - 1):+.1f} %)"
        for stage, begin, end in outcome.validation
        if math.isfinite(begin) and math.isfinite(end)  # NaN: this process did not see the stage
    ]
    return [*lines, f"{outcome.steps} steps; weights in {outcome.weights}; curves and grids in {framework.run_folder}"]


def _count(framework: Framework, fresh: bool, work: Callable[[], Mapping[str, float]], last: str) -> list[str]:
    """Work that ends with numbers; ``last`` is the file it writes last, so its presence means that it is done."""
    _start_anew(framework, fresh)
    done = framework.run_folder / last
    if done.exists():
        return [f"{done} is there from an earlier run; --fresh starts anew"]
    return [*(f"{name}: {value:.5g}" for name, value in work().items()), f"wrote {done}"]


def _sweep(framework: Framework, fresh: bool) -> list[str]:
    """Every variant in its own folder, then one table of their numbers."""
    _start_anew(framework, fresh)
    folder: Path = framework.run_folder
    variants = {name: framework.variant(name) for name in framework.recipe.sweep.variants}
    lines = run_sweep({name: one.evaluate for name, one in variants.items()}, folder)
    return [*lines, f"wrote {folder / 'results.md'}"]


def _start_anew(framework: Framework, fresh: bool) -> None:
    if fresh and (kept := set_aside(framework.run_folder)) is not None:
        framework.progress.note(f"the earlier run is kept in {kept}")
