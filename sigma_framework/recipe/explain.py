"""What a recipe will do, without doing it: components with their plugins, stages, tokens, parameters, memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sigma_framework.plugin_host import PluginHost
from sigma_framework.provenance import Component
from sigma_framework.recipe.backbone_answers import numbers_of
from sigma_framework.recipe.plain_form import plain_value
from sigma_framework.recipe.records import ComponentBlock, DataSourceBlock, Recipe
from sigma_framework.recipe.scene_fit import default_size
from sigma_framework.specs import BackboneSpec, DataSourceSpec

_USUAL_SUBJECTS = 3
"""Subjects to count tokens for when no scene says how many."""
_MOST_SUBJECTS = 10
"""What training without a bound is counted for."""


def explain(
    recipe: Recipe, host: PluginHost, size: tuple[int, int] | None = None, subjects: int | None = None
) -> dict[str, Any]:
    """Plain data that says what will run.

    Args:
        recipe: checked.
        host: not asked for anything heavy; its broken plugins are named.
        size: width and height of the image, pixels, where a scene says it.
        subjects: number of subjects, where a scene says it.
    """
    document: dict[str, Any] = {
        "recipe": recipe.name,
        "file": recipe.path.name if recipe.path else None,
        "task": recipe.task,
        "run_folder": str(recipe.run_folder),
        "seed": recipe.run.seed,
        "components": [_described(key, component) for key, component in _components(recipe, host)],
        "backbone": _backbone(recipe, size, subjects),
    }
    if recipe.task == "train":
        document["stages"] = _stages(recipe)
        document["steps"] = sum(stage.steps for stage in recipe.stages.values())
        document["train"] = plain_value(recipe.train)
    if recipe.sampler is not None:
        document["sampler"] = {**plain_value(recipe.sampler.settings), **plain_value(recipe.sampler.config)}
    if recipe.task == "sweep":
        document["variants"] = plain_value(recipe.sweep.variants)
    document["adapters"] = recipe.plain().get("adapters", {})
    document["broken_plugins"] = [str(broken) for broken in host.broken]
    return document


def plugin_listing(host: PluginHost) -> dict[str, Any]:
    """Every component, every conflict and every broken or switched-off plugin as plain data."""
    contested = host.conflicts()
    return {
        "components": [
            {**_described("", component), "conflict": (component.kind, component.name) in contested}
            for component in host.components()
        ],
        "conflicts": [
            {"kind": kind, "name": name, "providers": [str(rival.provider) for rival in rivals]}
            for (kind, name), rivals in contested.items()
        ],
        "broken": [
            {
                "distribution": broken.provider.distribution,
                "version": broken.provider.version,
                "entry_point": broken.provider.entry_point,
                "module": broken.provider.module,
                "reason": broken.reason,
            }
            for broken in host.broken
        ],
        "disabled": [str(provider) for provider in host.disabled],
    }


def _described(key: str, component: Component) -> dict[str, Any]:
    described = {
        "kind": component.kind,
        "name": component.name,
        "distribution": component.provider.distribution,
        "version": component.provider.version,
        "plugin": component.provider.entry_point,
        "summary": component.spec.summary,
    }
    return {"key": key, **described} if key else described


def _components(recipe: Recipe, host: PluginHost) -> Iterator[tuple[str, Component]]:
    for key, single in (("backbone", recipe.backbone), ("sampler", recipe.sampler)):
        if single is not None:
            yield key, single.component
    blocks: dict[str, Mapping[str, ComponentBlock | DataSourceBlock]] = {
        "controls": recipe.controls,
        "datasources": recipe.datasources,
        "metrics": recipe.metrics,
        "annotators": recipe.annotators,
    }
    for key, entries in blocks.items():
        for name, block in entries.items():
            yield f"{key}.{name}", block.component
    for name, granularity in recipe.granularities.items():
        if granularity.control is not None and granularity.control not in recipe.controls:
            yield f"granularities.{name}", host.resolve("control", granularity.control)


def _backbone(recipe: Recipe, size: tuple[int, int] | None, subjects: int | None) -> dict[str, Any] | None:
    """Licence, and the numbers that the backbone's own closed formulas give."""
    block = recipe.backbone
    if block is None or not isinstance(block.component.spec, BackboneSpec):
        return None
    spec = block.component.spec
    document: dict[str, Any] = {"type": block.reference, "licence": spec.licence, "size_multiple": spec.size_multiple}
    facts = _facts(recipe, size, subjects)
    document["counted_for"] = plain_value(facts)
    document.update(plain_value(dict(numbers_of(block, facts))))
    return document


def _facts(recipe: Recipe, size: tuple[int, int] | None, subjects: int | None) -> dict[str, Any]:
    """What a backbone's ``explain`` is told.

    ``size_hw`` pixels: the scene's, else what the first data source's config calls ``size_hw``, else a scene's
    default; ``identity_size`` pixels; ``subjects``: the scene's, else the most that a stage may meet, which its memory
    has to hold, else a usual number; ``rank`` and ``targets`` of the adapter; ``batch_size`` on one device; ``task``:
    ``train``, or ``generate`` for all others.
    """
    most = max((_most_subjects(recipe, name) for name in recipe.stages), default=None)
    sizes = [getattr(block.config, "size_hw", None) for block in recipe.datasources.values()]
    usual = next((found for found in sizes if found is not None), default_size(recipe.backbone)[::-1])
    training = recipe.task == "train"
    return {
        "task": "train" if training else "generate",
        "size_hw": tuple(usual) if size is None else (size[1], size[0]),
        "subjects": subjects or recipe.evaluate.subjects or most or _USUAL_SUBJECTS,
        "identity_size": recipe.conditioning.identity_size,
        "batch_size": recipe.train.batch_size // recipe.train.devices if training else 1,
        "rank": recipe.train.lora.rank,
        "targets": recipe.train.lora.targets,
    }


def _most_subjects(recipe: Recipe, stage: str) -> int:
    """Of one example of the stage, as far as its sources tell without being opened."""
    names = recipe.stages[stage].datasources
    counts = []
    for block in [recipe.datasources[name] for name in (recipe.datasources if names is None else names)]:
        spec = block.component.spec
        available = spec.max_subjects if isinstance(spec, DataSourceSpec) else _MOST_SUBJECTS
        said = [getattr(block.config, "max_subjects", None), recipe.stages[stage].subjects.max]
        counts.append(min([available, *([bound for bound in said if bound] or [_MOST_SUBJECTS])]))
    return max(counts, default=_USUAL_SUBJECTS)


def _stages(recipe: Recipe) -> list[dict[str, Any]]:
    """The curriculum with the step numbers at which each stage begins and ends."""
    rows: list[dict[str, Any]] = []
    begin = 0
    for name, stage in recipe.stages.items():
        names = stage.datasources if stage.datasources is not None else tuple(recipe.datasources)
        specs = [recipe.datasources[source].component.spec for source in names]
        rows.append(
            {
                "stage": name,
                "first_step": begin + 1,
                "last_step": begin + stage.steps,
                "subjects": {"min": stage.subjects.min, "max": stage.subjects.max},
                "datasources": list(names),
                "available_subjects": [
                    [spec.min_subjects, spec.max_subjects] for spec in specs if isinstance(spec, DataSourceSpec)
                ],
                "optimizer": stage.optimizer,
            }
        )
        begin += stage.steps
    return rows
