"""What running a recipe means for each task: the work, its run folder, and the lines that tell people what was made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sigma_framework.errors import RunError
from sigma_framework.learning_curve import describe_learning_curve
from sigma_framework.run_folder import refuse_other_recipe, set_aside
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
        "evaluate": lambda: _count(framework, fresh, allow, framework.evaluate, _last_of_evaluation(framework)),
        "build": lambda: _count(framework, fresh, allow, framework.build, "shards/manifest.json"),
        "sweep": lambda: _sweep(framework, fresh, allow),
        "inspect": lambda: _count(framework, fresh, allow, framework.inspect, "correspondence.png"),
    }
    task = framework.recipe.task
    if task not in tasks:
        raise RunError(f"task: {task} is not part of this version; tasks: {', '.join(tasks)}")
    return tasks[task]()


def _make_images(framework: Framework, fresh: bool, make: Callable[..., Result]) -> list[str]:
    if fresh:
        framework.check()  # a scene that cannot be made, or lies in the folder itself, must not cost the folder
        scene = framework.recipe.scene
        if scene is not None and framework.run_folder.absolute() in scene.absolute().parents:
            raise RunError(
                f"{scene} lies in {framework.run_folder}, which --fresh would set aside; copy it elsewhere first"
            )
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
    ended = [*outcome.notes[-1:]] if not outcome.complete else [f"weights in {outcome.weights}"]
    return [*lines, f"{outcome.steps} steps; curves and grids in {framework.run_folder}", *ended]


def _count(
    framework: Framework, fresh: bool, allow: Sequence[str], work: Callable[[], Mapping[str, float]], last: str
) -> list[str]:
    """Work that ends with numbers; ``last`` is the file it writes last, so its presence means that it is done."""
    _start_anew(framework, fresh)
    if done := _finished(framework, allow, last):
        return [done]
    lines = [f"{name}: {value:.5g}" for name, value in work().items()]
    return [*lines, f"wrote {framework.run_folder / last}"]


def _last_of_evaluation(framework: Framework) -> str:
    """The report; where nobody makes the images, what tells others to make them."""
    return "images/manifest.json" if framework.recipe.evaluate.made_by == "nobody" else "report.html"


def _sweep(framework: Framework, fresh: bool, allow: Sequence[str]) -> list[str]:
    """Every variant in its own folder, one after another, then one table of their numbers."""
    _start_anew(framework, fresh)
    if done := _finished(framework, allow, "results.md"):
        return [done]
    variants = {name: framework.variant(name) for name in framework.recipe.sweep.variants}
    curves = _learning_curves(variants) if framework.recipe.sweep.learning_curves else []

    def work(name: str) -> Callable[[], Mapping[str, float]]:
        return lambda: variants.pop(name).evaluate()  # and with it goes its base

    lines = run_sweep({name: work(name) for name in list(variants)}, framework.run_folder)
    framework.write_record()
    return [*lines, *curves, f"wrote {framework.run_folder / 'results.md'}"]


def _learning_curves(variants: Mapping[str, Framework]) -> list[str]:
    """How each variant's adapters learned, where they tell."""
    lines = []
    for name, variant in variants.items():
        for adapter in variant.recipe.adapters.values():
            lines += [
                f"{name}: validation loss of its training, {one}" for one in describe_learning_curve(Path(adapter.path))
            ]
    return lines


def _finished(framework: Framework, allow: Sequence[str], last: str) -> str:
    """What to say when the folder already holds this work; empty when there is work to do.

    Raises:
        RunError: it holds a run of another recipe.
    """
    folder = framework.run_folder
    if not (folder / "resolved.yaml").exists():
        return ""
    refuse_other_recipe(folder, framework.recipe.plain(folder), ("run.dir", *allow))
    return f"{folder / last} is there from an earlier run; --fresh starts anew" if (folder / last).exists() else ""


def _start_anew(framework: Framework, fresh: bool) -> None:
    if fresh and (kept := set_aside(framework.run_folder)) is not None:
        framework.progress.note(f"the earlier run is kept in {kept}")
