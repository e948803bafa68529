"""Relative paths of a recipe: relative to the file that writes them, found by the schema's ``Path`` fields."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from sigma_framework.errors import Problem
from sigma_framework.recipe.origins import KeyPath, Origin, dotted

_BARE_WORD = re.compile(r"[A-Za-z0-9_-]+")
_NOT_LOCAL = re.compile(r"[a-z][a-z0-9+.-]*:.*", re.IGNORECASE | re.DOTALL)

OriginOf = Callable[[KeyPath], Origin]


@dataclasses.dataclass(frozen=True, slots=True)
class Located:
    """A block's data after its relative paths were resolved."""

    data: dict[str, Any]
    """The block with absolute paths."""
    files: Mapping[str, Path]
    """Absolute path by key path, for every path of the block."""
    problems: tuple[Problem, ...]
    """Texts that are no local path."""


def place_paths(schema: type, data: Mapping[str, Any], path: KeyPath, origin_of: OriginOf) -> Located:
    """Makes the paths of one block absolute.

    A text is a path where the schema says ``Path``, and where it starts with ``./`` or ``../`` in a field that takes
    text (e.g. weights that are either a folder or a name in a model collection). Where it says ``Path | str``, a bare
    word is a name.
    """
    search = _Search(origin_of)
    hints = get_type_hints(schema, include_extras=True)
    placed = {key: search.value(hints.get(key, Any), value, (*path, key)) for key, value in data.items()}
    return Located(placed, search.files, tuple(search.problems))


def is_bare_word(text: str) -> bool:
    """Whether an adapter's ``path`` may be a name: of one that comes with the backbone's weights."""
    return bool(_BARE_WORD.fullmatch(text))


class _Search:
    def __init__(self, origin_of: OriginOf) -> None:
        self._origin_of = origin_of
        self.files: dict[str, Path] = {}
        self.problems: list[Problem] = []

    def value(self, hint: Any, value: Any, path: KeyPath) -> Any:
        if isinstance(value, str):
            return self._text(hint, value, path)
        if isinstance(value, Mapping):
            return {key: self.value(_inner(hint, key), item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(_item(hint, index), item, path) for index, item in enumerate(value)]
        return value

    def _text(self, hint: Any, text: str, path: KeyPath) -> str:
        if _takes_path(hint):
            if str in _choices(hint) and is_bare_word(text):
                return text
            if _NOT_LOCAL.fullmatch(text) or text.startswith("~") or "\0" in text:
                remedy = "give a local file or folder; nothing is fetched and nothing is expanded"
                self.problems.append(Problem(dotted(path), f'found "{text[:60]}", expected a local path', remedy))
                return text
        elif not text.startswith(("./", "../")):
            return text
        absolute = Path(self._origin_of(path).folder / text)
        self.files[dotted(path)] = absolute
        return str(absolute)


def _choices(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _choices(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [part for choice in get_args(hint) for part in _choices(choice)]
    return [hint]


def _takes_path(hint: Any) -> bool:
    return Path in _choices(hint)


def _item(hint: Any, index: int) -> Any:
    for choice in _choices(hint):
        arguments = get_args(choice)
        if arguments and get_origin(choice) not in (dict, Mapping):
            return (
                arguments[0]
                if len(arguments) == 1 or Ellipsis in arguments
                else arguments[min(index, len(arguments) - 1)]
            )
    return Any


def _inner(hint: Any, key: str) -> Any:
    for choice in _choices(hint):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return get_type_hints(choice, include_extras=True).get(key, Any)
        if len(get_args(choice)) == 2:
            return get_args(choice)[1]
    return Any
