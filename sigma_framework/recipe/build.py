"""A checked recipe -> built components. Here, and only here, a recipe's heavy packages are imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sigma_framework.plugin_host import PluginHost, build_with
from sigma_framework.protocols import Annotator, Backbone, ControlEncoder, DataSource, Metric, Objective, Sampler
from sigma_framework.provenance import Provider
from sigma_framework.recipe.records import Recipe
from sigma_framework.specs import ControlSpec, DataSourceSpec


def build_backbone(recipe: Recipe, host: PluginHost) -> Backbone:
    """The base model with frozen weights, without adapters."""
    block = recipe.require_backbone()
    backbone: Backbone = host.make(block.component, block.config)
    return backbone


def build_sampler(recipe: Recipe, host: PluginHost) -> Sampler:
    """The sampling loop."""
    block = recipe.require_sampler()
    sampler: Sampler = host.make(block.component, block.config)
    return sampler


def build_objective(recipe: Recipe, host: PluginHost) -> Objective:
    """A component's own training objective that the recipe names; not for ``adapter``, which is the core's."""
    objective, block = recipe.objective, recipe.objective.owner
    assert objective.spec is not None
    assert block is not None
    built: Objective = build_with(
        objective.spec.load_factory, block.component, block.config, objective.options, recipe.run.seed
    )
    return built


def build_datasources(recipe: Recipe, host: PluginHost) -> dict[str, DataSource]:
    """Every source by its local name."""
    return {name: host.make(block.component, block.config) for name, block in recipe.datasources.items()}


def build_metrics(recipe: Recipe, host: PluginHost) -> dict[str, Metric]:
    """Every measure by its local name."""
    return {name: host.make(block.component, block.config) for name, block in recipe.metrics.items()}


def build_annotators(recipe: Recipe, host: PluginHost) -> dict[str, Annotator]:
    """The stages of data making in the order of ``build.stages``, built here and now."""
    return {name: make() for name, make, _ in plan_annotators(recipe, host)}


def plan_annotators(recipe: Recipe, host: PluginHost) -> list[tuple[str, Callable[[], Annotator], Mapping[str, Any]]]:
    """(name, how to build it, its type, options and version) of each stage; can be pickled, so that workers build."""
    order = recipe.build.stages if recipe.build.stages is not None else tuple(recipe.annotators)
    planned: list[tuple[str, Callable[[], Annotator], Mapping[str, Any]]] = []
    for name in order:
        block = recipe.annotators[name]
        component = block.component
        make = partial(build_with, component.spec.load_factory, component, block.config)
        planned.append((name, make, _facts(recipe, "annotators", name, component.provider)))
    return planned


def source_facts(recipe: Recipe, name: str) -> Mapping[str, Any]:
    """Type, options, version and licence of a block under ``datasources``, as a set tells where it comes from."""
    component = recipe.datasources[name].component
    spec = component.spec
    licence = {"licence": spec.licence} if isinstance(spec, DataSourceSpec) and spec.licence else {}
    return {**licence, **_facts(recipe, "datasources", name, component.provider)}


def _facts(recipe: Recipe, section: str, name: str, provider: Provider) -> dict[str, Any]:
    return {**recipe.resolved[section][name], "provider": provider.distribution, "version": provider.version}


def control_specs(recipe: Recipe, host: PluginHost) -> dict[str, ControlSpec]:
    """What a scene may write as ``control.type``: registered controls without rivals, and those of blocks."""
    specs = dict(host.specs("control"))
    specs.update({block.component.name: block.component.spec for block in recipe.controls.values()})
    return {name: spec for name, spec in specs.items() if isinstance(spec, ControlSpec)}


def build_control(recipe: Recipe, host: PluginHost, control: str) -> ControlEncoder:
    """The encoder of a control type that a scene names, with the options of its block under ``controls``.

    Raises:
        PluginError: no such control.
    """
    block = recipe.control_block(control)
    component = block.component if block else host.resolve("control", control)
    config: Any = block.config if block else component.spec.config()
    encoder: ControlEncoder = host.make(component, config)
    return encoder


def build_granularities(recipe: Recipe, host: PluginHost) -> dict[str, tuple[str, ControlEncoder]]:
    """(registered control type, encoder) by granularity, for those that are not mixed.

    A granularity names a block under ``controls`` first, a registered control otherwise.
    """
    return {
        name: _named_control(recipe, host, block.control)
        for name, block in recipe.granularities.items()
        if block.control is not None
    }


def build_named_control(recipe: Recipe, host: PluginHost, name: str) -> tuple[str, ControlEncoder]:
    """(registered control type, encoder) of a granularity, a block under ``controls`` or a registered control."""
    granularity = recipe.granularities.get(name)
    return _named_control(recipe, host, granularity.control if granularity and granularity.control else name)


def _named_control(recipe: Recipe, host: PluginHost, name: str) -> tuple[str, ControlEncoder]:
    block = recipe.controls.get(name)
    if block is not None:
        return block.component.name, host.make(block.component, block.config)
    return host.resolve("control", name).name, build_control(recipe, host, name)
