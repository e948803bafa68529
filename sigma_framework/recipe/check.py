"""Every mistake of a recipe in one pass: schemas, components, and what blocks say about one another.

Pure validation on plain data; nothing heavy is imported and no component is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sigma_framework.dataclass_schema import shown
from sigma_framework.errors import PluginError, Problem, RecipeError, listed, nearest_name
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe.adapter_places import place_adapters, place_start
from sigma_framework.recipe.consistency import disagreements
from sigma_framework.recipe.findings import Findings
from sigma_framework.recipe.load import LoadedRecipe
from sigma_framework.recipe.origins import KeyPath
from sigma_framework.recipe.plain_form import plain_form
from sigma_framework.recipe.ranges import Weight
from sigma_framework.recipe.records import ComponentBlock, DataSourceBlock, ObjectiveBlock, Recipe, SamplerBlock
from sigma_framework.recipe.schema import (
    BLOCKS,
    COMPONENT_MAPS,
    COMPONENTS,
    DATASOURCE_WEIGHT,
    RECORD_MAPS,
    SamplerSettings,
    TopLevel,
)
from sigma_framework.recipe.training_schema import TrainBlock
from sigma_framework.recipe.variants import evaluation_of, training_of
from sigma_framework.specs import BackboneSpec, Kind, MetricSpec

_OWN_NAME = re.compile(r"[A-Za-z_][\w-]*")
_TOP_KEYS = ("task", "scene", "background", "source", "images")
KNOWN_KEYS = (*_TOP_KEYS, *BLOCKS, *RECORD_MAPS, *COMPONENTS, *COMPONENT_MAPS)
"""The keys a recipe may have at its top, besides ``extends``."""
ADAPTER = "adapter"
"""The one training objective that is the core's own."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The outcome of a check."""

    recipe: Recipe | None
    """None when there are problems."""
    problems: tuple[Problem, ...]
    """Everything that is wrong."""
    backbone: ComponentBlock | None
    """As far as it is right, also where the rest is not."""


def disabled_plugins(loaded: LoadedRecipe) -> tuple[str, ...]:
    """``plugins.disable`` as far as it is readable, for ``PluginHost.discover``; the check reports the rest."""
    block = loaded.data.get("plugins")
    names = block.get("disable") if isinstance(block, Mapping) else None
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def check_recipe(loaded: LoadedRecipe, host: PluginHost) -> Recipe:
    """The typed recipe.

    Args:
        loaded: from ``load_recipe``.
        host: the plugins; discovered with ``disable=disabled_plugins(loaded)``.

    Raises:
        RecipeError: with every problem: where, what was found, what was expected, the nearest right name.
    """
    examined = examine(loaded, host)
    if examined.recipe is None:
        raise RecipeError(loaded.label, examined.problems)
    return examined.recipe


def examine(loaded: LoadedRecipe, host: PluginHost) -> Examined:
    """As ``check_recipe``, with the problems as a value."""
    findings = Findings(loaded=loaded, problems=list(loaded.problems))
    values = _read_blocks(findings, host)
    recipe = None
    if not findings.problems:
        recipe = _assemble(findings, values)
        findings.problems.extend(disagreements(recipe, host))
        findings.problems.extend(_variant_problems(loaded, host))
    problems = _unique(findings.worded(problem) for problem in findings.problems)
    return Examined(None if problems else recipe, problems, values["backbone"])


def _read_blocks(findings: Findings, host: PluginHost) -> dict[str, Any]:
    """Every block by its key, as far as it is right."""
    data = findings.loaded.data
    for key in data:
        if key not in KNOWN_KEYS:
            findings.add(key, "unknown key", nearest_name(key, KNOWN_KEYS) or f"known keys: {listed(KNOWN_KEYS)}")
    values: dict[str, Any] = {}
    top = findings.record(TopLevel, {key: data[key] for key in _TOP_KEYS if key in data}, ())
    values.update({key: getattr(top, key, None) for key in _TOP_KEYS})
    for key, schema in BLOCKS.items():
        values[key] = findings.record(schema, findings.block((key,)), (key,))
    for key, schema in RECORD_MAPS.items():
        entries = _entries(findings, key)
        values[key] = {name: findings.record(schema, entry, (key, name)) for name, entry in entries.items()}
    for key, kind in COMPONENT_MAPS.items():
        values[key] = {
            name: _entry(findings, host, kind, key, name, entry) for name, entry in _entries(findings, key).items()
        }
    values["backbone"] = _component(findings, host, "backbone", ("backbone",), data.get("backbone"))
    values["sampler"] = _sampler(findings, host, data.get("sampler"))
    values["objective"] = _objective(findings, values["train"], [values["backbone"], *values["metrics"].values()])
    values["adapters"] = place_adapters(findings, values["backbone"], values["adapters"])
    values["train"] = place_start(findings, values["backbone"], values["train"])
    return values


def _entries(findings: Findings, key: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a map of the user's own names that are maps."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, entry in findings.block((key,)).items():
        if not _OWN_NAME.fullmatch(name):
            findings.add(f"{key}.{name}", f"found the name {shown(name)}, expected letters, digits, _ and -")
        elif not isinstance(entry, Mapping):
            findings.add(f"{key}.{name}", f"found {shown(entry)}, expected a map")
        else:
            found[name] = entry
    return found


def _entry(findings: Findings, host: PluginHost, kind: Kind, key: str, name: str, entry: Mapping[str, Any]) -> Any:
    if kind != "datasource":
        return _component(findings, host, kind, (key, name), entry)
    options = {option: value for option, value in entry.items() if option != DATASOURCE_WEIGHT}
    weight = findings.value(Weight, entry.get(DATASOURCE_WEIGHT, 1.0), (key, name, DATASOURCE_WEIGHT))
    block = _component(findings, host, kind, (key, name), options, beside=(DATASOURCE_WEIGHT,))
    if block is None or weight is None:
        return None
    return DataSourceBlock(reference=block.reference, component=block.component, config=block.config, weight=weight)


def _component(
    findings: Findings, host: PluginHost, kind: Kind, path: KeyPath, entry: Any, beside: Sequence[str] = ()
) -> ComponentBlock | None:
    """One component block; None when it is absent or wrong (then with problems)."""
    if entry is None:
        return None
    where = ".".join(path)
    if not isinstance(entry, Mapping):
        findings.add(where, f"found {shown(entry)}, expected a map with the key type")
        return None
    reference = entry.get("type")
    if not isinstance(reference, str):
        known = f"one of: {listed(host.specs(kind))}"
        found = "missing" if "type" not in entry else f"found {shown(reference)}"
        findings.add(f"{where}.type", f"{found}, expected the name of a {kind}", known)
        return None
    try:
        component = host.resolve(kind, reference)
    except PluginError as error:
        findings.add(f"{where}.type", error.message)
        return None
    options = {key: value for key, value in entry.items() if key != "type"}
    try:
        config = findings.record(component.spec.config, options, path, beside=("type", *beside))
    except NameError as error:
        findings.add(
            where, f"the options of {component.provider} cannot be read: {error}", "report it to the plugin's author"
        )
        return None
    return None if config is None else ComponentBlock(reference=reference, component=component, config=config)


def _sampler(findings: Findings, host: PluginHost, entry: Any) -> SamplerBlock | None:
    if not isinstance(entry, Mapping):
        _component(findings, host, "sampler", ("sampler",), entry)
        return None
    own = SamplerSettings.__dataclass_fields__
    settings = findings.record(
        SamplerSettings, {key: value for key, value in entry.items() if key in own}, ("sampler",)
    )
    options = {key: value for key, value in entry.items() if key not in own}
    block = _component(findings, host, "sampler", ("sampler",), options, beside=tuple(own))
    if block is None or settings is None:
        return None
    return SamplerBlock(reference=block.reference, component=block.component, config=block.config, settings=settings)


def _objective(findings: Findings, train: TrainBlock | None, blocks: Sequence[ComponentBlock | None]) -> ObjectiveBlock:
    """The core's objective, or one that the backbone or a metric of the recipe brings."""
    if train is None or train.objective == ADAPTER:
        if train is not None and train.objective_options:
            findings.add(
                "train.objective_options", "found options, expected none for the objective adapter", "remove them"
            )
        return ObjectiveBlock(name=ADAPTER, spec=None, options=None)
    brought = {
        name: (spec, block)
        for block in reversed(blocks)  # the backbone's own win
        if block is not None and isinstance(block.component.spec, BackboneSpec | MetricSpec)
        for name, spec in block.component.spec.objectives.items()
    }
    spec, owner = brought.get(train.objective, (None, None))
    if spec is None and blocks[0] is not None:  # a wrong backbone has been reported
        known = (ADAPTER, *brought)
        what = f'found "{train.objective}", expected one of: {listed(known)}'
        findings.add("train.objective", what, nearest_name(train.objective, known))
    path = ("train", "objective_options")
    options = findings.record(spec.options, train.objective_options, path) if spec else None
    return ObjectiveBlock(name=train.objective, spec=spec, options=options, owner=owner)


def _assemble(findings: Findings, values: dict[str, Any]) -> Recipe:
    loaded = findings.loaded
    resolved = plain_form(loaded.redacted, values)
    shared = values["source"]
    for key in ("evaluate", "build"):
        block = values[key]
        values[key] = replace(block, source=block.source if block.source is not None else shared)
    return Recipe(
        name=loaded.name,
        path=loaded.path,
        files=dict(findings.files),
        origins=loaded.origins,
        resolved=resolved,
        **{key: value for key, value in values.items() if key != "source"},
    )


def _variant_problems(loaded: LoadedRecipe, host: PluginHost) -> list[Problem]:
    """Each variant of a sweep is a recipe of its own; its problems name the variant."""
    sweep = loaded.data.get("sweep")
    variants = sweep.get("variants") if isinstance(sweep, Mapping) else None
    trained = isinstance(sweep, Mapping) and sweep.get("train") is True
    problems: list[Problem] = []
    for name in variants or {}:
        parts = [evaluation_of(loaded, name), *([training_of(loaded, name)] if trained else [])]
        own = dict.fromkeys(problem for part in parts for problem in examine(part, host).problems)
        prefix = f"sweep.variants.{name}"
        problems += [Problem(f"{prefix}: {problem.where}", problem.what, problem.remedy) for problem in own]
    return problems


def _unique(problems: Any) -> tuple[Problem, ...]:
    return tuple(dict.fromkeys(problems))
