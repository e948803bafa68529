"""A resolved recipe as YAML text, with where each value came from as a comment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sigma_framework.recipe.origins import DEFAULT, KeyPath, Origin
from sigma_framework.recipe.records import Recipe

_COMMENT_COLUMN = 48


def config_text(recipe: Recipe) -> str:
    """The recipe with all defaults; loading the text again gives the same recipe."""
    return "\n".join(_lines(recipe.plain(), (), recipe)) + "\n"


def origins_of(recipe: Recipe) -> dict[str, str]:
    """Where each value of ``recipe.plain()`` came from, by dotted key."""
    return {".".join(path): str(_origin(recipe, path)) for path in _paths(recipe.plain(), ())}


def _lines(data: Mapping[str, Any], path: KeyPath, recipe: Recipe) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in data.items():
        here = (*path, key)
        name = key if key.isidentifier() and key.lower() not in _READ_AS_OTHER else json.dumps(key, ensure_ascii=False)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, here, recipe)
        else:
            text = f"{indent}{name}: {_scalar(value)}"
            yield f"{text:<{_COMMENT_COLUMN}}  # {_origin(recipe, here)}"


def _paths(data: Mapping[str, Any], path: KeyPath) -> Iterator[KeyPath]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _paths(value, (*path, key))
        else:
            yield (*path, key)


def _scalar(value: Any) -> str:
    """JSON is YAML, except for how floats with an exponent are written."""
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_scalar(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _origin(recipe: Recipe, path: KeyPath) -> Origin:
    for depth in range(len(path), 0, -1):
        if path[:depth] in recipe.origins:
            return recipe.origins[path[:depth]]
    return DEFAULT


_READ_AS_OTHER = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
"""Words that YAML may take for something else than text."""
