"""From a checked recipe to a training run: what is trained, on what, in which folder, going on from where."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from sigma_framework.adapter_facts import adapter_facts
from sigma_framework.errors import SigmaError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Progress, Silent
from sigma_framework.protocols import ControlEncoder, DataSource, Objective
from sigma_framework.recipe import Recipe, check_recipe, load_recipe
from sigma_framework.recipe.build import (
    build_backbone,
    build_datasources,
    build_named_control,
    build_objective,
    build_sampler,
)
from sigma_framework.run_folder import (
    as_yaml,
    held,
    read_recipe,
    refuse_other_recipe,
    set_aside,
    versions_of,
    write_record,
)
from sigma_framework.specs import BackboneSpec
from sigma_framework.training.adapter_objective import AdapterObjective, AdapterOptions, Granularity
from sigma_framework.training.checkpoints import find_newest
from sigma_framework.training.curriculum import BatchPlan, StagePlan, TokenBudget, plan_batches
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.result import result_is_whole
from sigma_framework.training.run import run_training
from sigma_framework.training.trackers import require_trackers
from sigma_framework.training.training_run import TrainingOutcome, TrainingRun, is_first_process

WITHOUT_EFFECT = (
    "run.dir",
    "run.log_every",
    "train.num_workers",
    "train.threads",
    "train.checkpoint_every",
    "train.grid_every",
    "train.grid_scenes",
    "train.grid_steps",
    "train.validate_every",
    "train.validation_batch_size",
    "train.time_limit_minutes",
    "train.keep_last",
    "train.cache_gb",
    "train.max_bad_steps",
    "train.spike_factor",
    "train.loggers",
    "train.devices",
    "train.num_nodes",
    "train.strategy",
    "train.accumulate",
    "train.keep_latents",
)
"""Keys that do not change what is learned (the last five: up to rounding), so a resumed run may differ in them."""


def train_recipe(
    recipe: Recipe, host: PluginHost, folder: Path, fresh: bool, allow: Sequence[str], progress: Progress
) -> TrainingOutcome:
    """Trains a recipe in its run folder; the same call again goes on where it stopped.

    Args:
        recipe: task ``train``.
        host: the plugins it was checked against.
        folder: the run folder.
        fresh: set an earlier run aside instead of going on with it.
        allow: keys in which the recipe may differ from the run that is resumed.
        progress: where progress is reported.

    Raises:
        RunError: the folder holds a run of another recipe.
        RunInterrupted: a signal came; the state is saved.
    """
    if fresh and is_first_process():
        _start_anew(folder, progress)
    refuse_changed_recipe(recipe, host, folder, allow)
    require_trackers(recipe.train.loggers)
    sources = build_datasources(recipe, host)
    plan = plan_of(recipe, sources)
    weights = folder / ("adapter" if recipe.objective.spec is None else recipe.objective.name)
    if finished := _finished(folder, weights, plan):
        progress.note(f"{folder} holds this run, finished after {finished.steps} steps; --fresh starts anew")
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder) if is_first_process() else nullcontext():
        run = replace(_run_of(recipe, host, sources, plan, folder, weights), allow=tuple(allow))
        # After the weights: a recipe that they refuse is mended, and must not find another recipe's run here then.
        write_record(folder, recipe.plain(folder), versions_of(host))
        return run_training(run, progress if is_first_process() else Silent())


def refuse_changed_recipe(recipe: Recipe, host: PluginHost, folder: Path, allow: Sequence[str]) -> None:
    """Makes sure that the folder is free or holds a run of this recipe, maybe recorded by an earlier version.

    Raises:
        RunError: it holds something else; names the differing keys.
    """

    def read(place: Path) -> Mapping[str, Any] | None:
        """With the keys that came since it was written, at their defaults, where it can still be read as a recipe."""
        recorded = read_recipe(place)
        try:
            return recorded and check_recipe(load_recipe(place / "resolved.yaml"), host).plain(place)
        except SigmaError:
            return recorded

    refuse_other_recipe(folder, recipe.plain(folder), (*WITHOUT_EFFECT, *allow), read)


def _start_anew(folder: Path, progress: Progress) -> None:
    """Sets an earlier run aside, unless it is still going on."""
    if folder.is_dir():
        with held(folder):
            kept = set_aside(folder)
        progress.note(f"the earlier run is kept in {kept}")


def _run_of(
    recipe: Recipe, host: PluginHost, sources: Mapping[str, DataSource], plan: BatchPlan, folder: Path, weights: Path
) -> TrainingRun:
    """Loads the weights and puts a run together."""
    return TrainingRun(
        objective=objective_of(recipe, host),
        sources=sources,
        plan=plan,
        folder=folder,
        weights_folder=weights,
        recipe_yaml=as_yaml(recipe.plain()),
        options=recipe.train,
        hand_overs=tuple(stage.optimizer for stage in recipe.stages.values()),
        resume_line=shlex.join(["sigma-run", str(folder / "resolved.yaml"), f"run.dir={folder}"]),
    )


def plan_of(recipe: Recipe, sources: Mapping[str, DataSource]) -> BatchPlan:
    """The batches of the recipe's curriculum."""
    stages = [
        StagePlan(
            name=name,
            steps=block.steps,
            min_subjects=block.subjects.min,
            max_subjects=block.subjects.max,
            sources=block.datasources if block.datasources is not None else tuple(sources),
        )
        for name, block in recipe.stages.items()
    ]
    weights = {name: block.weight for name, block in recipe.datasources.items()}
    train, seed = recipe.train, recipe.run.seed
    return plan_batches(stages, sources, weights, train.batch_size, seed, train.validation_scenes, _budget_of(recipe))


def _budget_of(recipe: Recipe) -> TokenBudget | None:
    """The recipe's token budget per step, if it has one."""
    spec = recipe.require_backbone().component.spec
    if recipe.train.tokens_per_batch is None or not isinstance(spec, BackboneSpec):
        return None
    return TokenBudget(
        tokens=recipe.train.tokens_per_batch,
        identity_size=recipe.conditioning.identity_size,
        pixels_per_token=spec.size_multiple,
    )


def objective_of(recipe: Recipe, host: PluginHost) -> Objective:
    """The backbone's own objective when the recipe names one, else the adapter's."""
    if recipe.objective.spec is not None:
        return build_objective(recipe, host)
    controls, granularities = granularities_of(recipe, host)
    backbone = build_backbone(recipe, host)
    train, conditioning, sampler = recipe.train, recipe.conditioning, recipe.require_sampler()
    cache = None if train.cache is None else EncodingCache(Path(train.cache), backbone, int(train.cache_gb * 1e9))
    options = AdapterOptions(
        identity_size=conditioning.identity_size,
        channel_dropout=conditioning.channel_dropout,
        full_prompt_share=conditioning.full_prompt_share,
        text_dropout=conditioning.text_dropout,
        condition_dropout=conditioning.condition_dropout,
        guidance=train.guidance if backbone.guidance_embedded else None,
        timesteps=train.timesteps,
        subject_loss_weight=train.subject_loss_weight,
        attention_loss_weight=train.attention_loss_weight,
        rank=train.lora.rank,
        alpha=train.lora.alpha,
        targets=train.lora.targets,
        picture_steps=train.grid_steps,
        true_cfg=sampler.true_cfg,
        keep_latents=train.keep_latents,
        composition=conditioning.composition,
    )
    return AdapterObjective(
        backbone,
        controls,
        granularities,
        build_sampler(recipe, host),
        options,
        seed=recipe.run.seed,
        init_from=None if train.init_from is None else Path(train.init_from),
        init_facts=train.init_facts,
        metadata=adapter_facts(recipe),
        cache=cache,
    )


def granularities_of(recipe: Recipe, host: PluginHost) -> tuple[dict[str, ControlEncoder], list[Granularity]]:
    """(encoders by control name, granularities); ``mixed`` draws per subject among the others."""
    single = {name: block.control for name, block in recipe.granularities.items() if block.control is not None}
    encoders = {control: build_named_control(recipe, host, control)[1] for control in single.values()}
    found = []
    for name, block in recipe.granularities.items():
        controls = (block.control,) if block.control is not None else tuple(single.values())
        found.append(Granularity(name=name, controls=controls, weight=block.weight))
    return encoders, found


def _finished(folder: Path, weights: Path, plan: BatchPlan) -> TrainingOutcome | None:
    """The outcome of a run that is already over: its last checkpoint is at the end and its weights are whole."""
    if not result_is_whole(folder, weights, plan.total_steps):
        return None
    state = find_newest(folder / "checkpoints").newest
    if state is None or state.step < plan.total_steps:
        return None
    table = tuple((stage.name, math.nan, math.nan) for stage in plan.stages)
    return TrainingOutcome(state.step, table, weights, ())
