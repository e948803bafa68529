"""What running a recipe means for each task: the work, its run folder, and the lines that tell people what was made."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sigma_framework.adapter_facts import digests_of
from sigma_framework.errors import RunError
from sigma_framework.learning_curve import describe_learning_curve
from sigma_framework.run_folder import refuse_other_recipe, set_aside
from sigma_framework.sweep import SweepRun, belongs_to_another, keep_scores, kept_scores, run_sweep

if TYPE_CHECKING:
    from sigma_framework.framework import Framework
    from sigma_framework.types import Result

_FREE_IN_SWEEP = ("run.dir", "sweep.variants", "sweep.seeds", "sweep.figure")
"""Keys in which a sweep may differ from the one it goes on with: what is in the table, not how it is made."""


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
    from sigma_framework.training.training_run import is_first_process

    outcome = framework.train(fresh, allow)
    if not is_first_process():
        return []
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
    written = framework.run_folder / last  # one of several jobs writes it
    return [*lines, f"wrote {written}"] if written.exists() else lines


def _last_of_evaluation(framework: Framework) -> str:
    """The report; where nobody makes the images, what tells others to make them."""
    return "images/manifest.json" if framework.recipe.evaluate.made_by == "nobody" else "report.html"


def _sweep(framework: Framework, fresh: bool, allow: Sequence[str]) -> list[str]:
    """Every variant with every seed in its own folder, one after another, then one table of their numbers."""
    _start_anew(framework, fresh)
    folder, sweep = framework.run_folder, framework.recipe.sweep
    if folder.exists():
        refuse_other_recipe(folder, framework.recipe.plain(folder), (*_FREE_IN_SWEEP, *allow))
    framework.write_record()
    seeds = sweep.seeds if sweep.seeds is not None else (None,)
    done: list[bool] = []
    curves: list[str] = []
    runs = [
        SweepRun(
            variant=name,
            seed=framework.recipe.run.seed if seed is None else seed,
            work=partial(_score_variant, framework, name, seed, done, curves),
        )
        for name in sweep.variants
        for seed in seeds
    ]
    lines = run_sweep(runs, folder, sweep.figure, _budget_line(framework))
    lines += curves
    if all(done):
        return [*lines, f"{folder / 'results.md'} is there from an earlier run; --fresh starts anew"]
    return [*lines, f"wrote {folder / 'results.md'} and {folder / 'figure.png'}"]


def _score_variant(
    framework: Framework, name: str, seed: int | None, done: list[bool], curves: list[str]
) -> Mapping[str, float]:
    """Means of one variant: of its finished evaluation, else made now.

    Args:
        framework: of the sweep.
        name: of the variant.
        seed: of this run of it; None is the recipe's.
        done: gets whether the evaluation was there already.
        curves: gets how its adapters learned, where the recipe asks for it.
    """
    adapter = None
    if framework.recipe.sweep.train:
        framework.progress.note(f"{name}, seed {framework.recipe.run.seed if seed is None else seed}")
        outcome = framework.training(name, seed).train()
        if not outcome.complete:
            raise RunError(f"sweep.variants.{name}: {outcome.notes[-1]}; then run the sweep again")
        adapter = outcome.weights
    variant = framework.variant(name, seed, adapter)
    if framework.recipe.sweep.learning_curves:
        curves += _learning_curves(name, variant)
    recipe = {**variant.recipe.plain(variant.run_folder), "digests": digests_of(variant.recipe)}
    kept = kept_scores(variant.run_folder, recipe)
    done.append(kept is not None)
    if kept is not None:
        return kept
    if belongs_to_another(variant.run_folder, recipe):
        set_aside(variant.run_folder)
    keep_scores(variant.run_folder, recipe)  # images of an interrupted evaluation are known by it
    means = {**variant.evaluate(), **_seconds(variant.run_folder / "results.csv")}
    keep_scores(variant.run_folder, recipe, means)
    return means


def _learning_curves(name: str, variant: Framework) -> list[str]:
    """How a variant's adapters learned, where they tell."""
    return [
        f"{name}: validation loss of its training, {one}"
        for adapter in variant.recipe.adapters.values()
        for one in describe_learning_curve(Path(adapter.path))
    ]


def _seconds(table: Path) -> dict[str, float]:
    """Mean wall time per image of an evaluation's table; nothing where it has no such column."""
    with table.open(newline="", encoding="utf-8") as file:
        found = [float(row["seconds"]) for row in csv.DictReader(file) if row.get("seconds")]
    return {"seconds": sum(found) / len(found)} if found else {}


def _budget_line(framework: Framework) -> str:
    """What each variant was trained with, for the reader of the table."""
    if not framework.recipe.sweep.train:
        return ""
    budgets = {}
    for name in framework.recipe.sweep.variants:
        recipe = framework.training(name).recipe
        steps = [stage.steps for stage in recipe.stages.values()]
        budgets[name] = f"{sum(steps)} steps of {recipe.train.batch_size} examples in {len(steps)} stage(s)"
    return "Trained: " + "; ".join(f"{name} {budget}" for name, budget in budgets.items()) + "."


def _finished(framework: Framework, allow: Sequence[str], last: str) -> str:
    """What to say when the folder already holds this work; empty when there is work to do.

    A whole evaluation by a recipe that differs where the caller accepts it is set aside, and work goes on from a copy
    of its images, of which what is still right is kept.

    Raises:
        RunError: it holds a run of another recipe.
    """
    folder = framework.run_folder
    if not (folder / "resolved.yaml").exists():
        return ""
    accepted = refuse_other_recipe(folder, framework.recipe.plain(folder), ("run.dir", *allow))
    if not (folder / last).exists():
        return ""
    if framework.recipe.task != "evaluate" or set(accepted) <= {"run.dir"}:
        return f"{folder / last} is there from an earlier run; --fresh starts anew"
    from sigma_framework.evaluation.run import IMAGES

    kept = _start_anew(framework, True)
    if kept is not None and (kept / IMAGES).exists():
        shutil.copytree(kept / IMAGES, folder / IMAGES)
    return ""


def _start_anew(framework: Framework, fresh: bool) -> Path | None:
    """Where the earlier run is kept, when it was set aside."""
    kept = set_aside(framework.run_folder) if fresh else None
    if kept is not None:
        framework.progress.note(f"the earlier run is kept in {kept}")
    return kept
