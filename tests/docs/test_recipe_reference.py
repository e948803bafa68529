"""``docs/recipes.md`` against the schema: every key with its type, its default and its meaning."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from sigma_framework.dataclass_schema import describe
from sigma_framework.recipe import schema, training_schema
from sigma_framework.recipe.check import KNOWN_KEYS
from sigma_framework.recipe.plain_form import plain_value
from sigma_framework.recipe.schema import BLOCKS, COMPONENT_MAPS, COMPONENTS, RECORD_MAPS, SamplerSettings, TopLevel

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def field_strings() -> dict[str, dict[str, str]]:
    """The string under each field, by class and field."""
    found: dict[str, dict[str, str]] = {}
    for node in [*ast.parse(inspect.getsource(schema)).body, *ast.parse(inspect.getsource(training_schema)).body]:
        if isinstance(node, ast.ClassDef):
            texts = found.setdefault(node.name, {})
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                ):
                    assert isinstance(text.value, ast.Constant)
                    texts[field.target.id] = str(text.value.value)
    return found


def rows(record: type, prefix: str) -> list[str]:
    """One table row per key of a block, nested blocks spelt out."""
    lines: list[str] = []
    hints = get_type_hints(record, include_extras=True)
    texts = field_strings()[record.__name__]
    for field in dataclasses.fields(record):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            lines += rows(hint, f"{key}.")
            continue
        text = re.sub(r"``(.+?)``", r"`\1`", texts[field.name])
        lines.append(f"| `{key}` | {describe(hint)} | {default_of(field)} | {text} |")
    return lines


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{json.dumps(plain_value(field.default))}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{json.dumps(plain_value(field.default_factory()))}`"
    return "required"


def reference() -> dict[str, list[str]]:
    """Table rows by block."""
    tables = {"top": rows(TopLevel, "")}
    tables.update({name: rows(record, f"{name}.") for name, record in BLOCKS.items()})
    tables.update({name: rows(record, f"{name}.<name>.") for name, record in RECORD_MAPS.items()})
    return {**tables, "sampler": rows(SamplerSettings, "sampler.")}


@pytest.mark.parametrize("block", reference())
def test_every_key_is_documented(block: str) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    missing = [row for row in reference()[block] if row not in page]
    assert not missing, "write into docs/recipes.md:\n" + "\n".join(missing)


def test_nothing_is_documented_that_is_not_there() -> None:
    known = {row.split("`")[1] for table in reference().values() for row in table}
    known |= {f"{name}.type" for name in COMPONENTS} | {f"{name}.<name>.type" for name in COMPONENT_MAPS}
    known |= {"datasources.<name>.weight", "extends"}
    documented = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(set(documented) - known) == []


def test_every_block_has_a_section() -> None:
    headings = set(re.findall(r"^### `(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(KNOWN_KEYS) - {"task", "scene", "background", "source", "images"} <= headings


def test_examples_are_yaml_with_known_keys() -> None:
    for text in re.findall(r"```yaml\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        assert set(yaml.safe_load(text)) <= {*KNOWN_KEYS, "extends"}
