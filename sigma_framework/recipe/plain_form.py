"""A checked recipe as plain data: what was written, and the defaults of everything that was not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_framework.recipe.records import ComponentBlock, DataSourceBlock, SamplerBlock
from sigma_framework.recipe.schema import BLOCKS, COMPONENT_MAPS, COMPONENTS, DATASOURCE_WEIGHT, RECORD_MAPS


def plain_form(redacted: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """All values of a recipe, in the recipe's order; blocks that nobody wrote and no default fills are left out.

    Args:
        redacted: what was written, references resolved, values from the environment left as ``${env:NAME}``.
        values: the checked blocks by key.
    """
    plain: dict[str, Any] = {"task": values["task"]}
    for key in ("scene", "background", "source", "images"):
        plain[key] = redacted.get(key, plain_value(values[key]))
    for key in BLOCKS:
        plain[key] = _completed(redacted.get(key), values[key])
    for key in COMPONENTS:
        if values[key] is not None:
            plain[key] = _component(redacted[key], values[key])
    for key in (*RECORD_MAPS, *COMPONENT_MAPS):
        entries = values[key]
        written = redacted.get(key, {})
        if entries:
            fill = _component if key in COMPONENT_MAPS else _completed
            plain[key] = {name: fill(written[name], entry) for name, entry in entries.items()}
    if values["objective"].options is not None:
        options = plain["train"].get("objective_options")
        plain["train"]["objective_options"] = _completed(options, values["objective"].options)
    ordered = ["task", *(key for key in redacted if key != "task"), *plain]
    return {key: plain[key] for key in dict.fromkeys(ordered) if plain.get(key) is not None}


def plain_value(value: Any) -> Any:
    """A value as YAML and JSON know it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain_value(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init
        }
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_value(item) for item in value]
    return (
        value if isinstance(value, (str, int, float, bool, type(None))) and not isinstance(value, Path) else str(value)
    )


def _completed(written: Any, record: Any) -> Any:
    """What was written, with the record's values for every key that was not."""
    if not (dataclasses.is_dataclass(record) and isinstance(written, (Mapping, type(None)))):
        return plain_value(record if written is None else written)
    complete: dict[str, Any] = {}
    given = written or {}
    for field in dataclasses.fields(record):
        if field.init:
            value = getattr(record, field.name)
            complete[field.name] = _completed(given[field.name], value) if field.name in given else plain_value(value)
    return complete


def _component(written: Mapping[str, Any], block: ComponentBlock | DataSourceBlock | SamplerBlock) -> dict[str, Any]:
    plain: dict[str, Any] = {"type": block.reference}
    if isinstance(block, SamplerBlock):
        plain.update(_completed(written, block.settings))
    if isinstance(block, DataSourceBlock):
        plain[DATASOURCE_WEIGHT] = block.weight
    return {**plain, **_completed(written, block.config)}
