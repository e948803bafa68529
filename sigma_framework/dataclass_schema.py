"""Plain data checked against a plain frozen dataclass: every problem in one pass, nothing converted silently.

Scenes check their controls with it, recipes their component blocks. The data comes from YAML or JSON, so only
mappings, sequences, text, numbers, true/false and null occur; ``"8"`` is not a number and 3 is not true.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sigma_framework.errors import Problem, listed, nearest_name
from sigma_framework.types import Raster, SceneFile


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of a check: an instance, or the reasons why there is none."""

    value: Any
    """The dataclass instance; None when there are problems."""
    problems: tuple[Problem, ...]
    """Everything that is wrong."""


@dataclass(frozen=True, slots=True)
class Range:
    """Marks a number's limits: ``steps: Annotated[int, Range(low=1)]``."""

    low: float | None = None
    """Smallest allowed value."""
    high: float | None = None
    """Largest allowed value."""
    above: float | None = None
    """The value must be larger than this."""

    def admits(self, value: float) -> bool:
        """Whether ``value`` lies within the limits."""
        if self.low is not None and value < self.low:
            return False
        if self.above is not None and value <= self.above:
            return False
        return self.high is None or value <= self.high

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"from {self.low} to {self.high}"
        parts = [f"of at least {self.low}"] if self.low is not None else []
        parts += [f"above {self.above}"] if self.above is not None else []
        parts += [f"of at most {self.high}"] if self.high is not None else []
        return " and ".join(parts)


def build(schema: type, data: Mapping[str, Any], where: str, beside: Iterable[str] = ()) -> Checked:
    """Checks ``data`` against ``schema`` and makes the instance.

    Args:
        schema: a dataclass; its ``__post_init__`` may raise ``ValueError`` or ``TypeError``, which become a problem.
        data: plain values by field name; arrays are allowed where a field is annotated ``Raster`` or ``Any``, file
            contents where it is annotated ``SceneFile``.
        where: key path of ``data``, the prefix of every problem's place.
        beside: keys that the same map may have and somebody else reads; named as known keys.
    """
    problems: list[Problem] = []
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}
    hints = get_type_hints(schema, include_extras=True)
    for key in data:
        if key not in fields:
            remedy = _nearest_key(str(key), [*fields, *beside], hints)
            problems.append(Problem(join(where, str(key)), "unknown key", remedy))
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            arguments[name] = convert(hints[name], data[name], join(where, name), problems)
        elif _is_required(field):
            problems.append(Problem(join(where, name), f"missing, expected {describe(hints[name])}"))
    if problems:
        return Checked(None, tuple(problems))
    try:
        return Checked(schema(**arguments), ())
    except (ValueError, TypeError) as error:
        return Checked(None, (Problem(where, str(error)),))


def convert(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:  # noqa: PLR0911  # one case per kind of hint
    """The value as the type hint wants it (lists become tuples, whole numbers floats); problems are added, not raised.

    Args:
        hint: a field's annotation.
        value: plain data.
        where: key path of the value.
        problems: what is wrong is added here; the value returned is then of no use.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        if any(isinstance(mark, (Raster, SceneFile)) for mark in get_args(hint)[1:]):
            return value
        return _convert_limited(hint, value, where, problems)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where, problems)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in get_args(hint)):
            return value
        return _refuse(hint, value, where, problems, nearest_name(str(value), map(str, get_args(hint))))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _convert_record(hint, value, where, problems)
    if origin in (tuple, list, Sequence) or hint in (tuple, list):
        return _convert_sequence(hint, value, where, problems)
    if origin in (dict, Mapping) or hint is dict:
        return _convert_mapping(hint, value, where, problems)
    return _convert_scalar(hint, value, where, problems)


def describe(hint: Any) -> str:  # noqa: PLR0911  # one case per kind of hint
    """A type hint in a user's words: ``a whole number``, ``one of mask, depth``, ``a list of 4 numbers``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        named = next((mark for mark in arguments[1:] if isinstance(mark, (Raster, SceneFile))), None)
        limits = [str(mark) for mark in arguments[1:] if isinstance(mark, Range)]
        if named is not None:
            if isinstance(named, Raster):
                return f"a {named.reading} picture"
            return f"a file ({', '.join(named.suffixes)})"
        return " ".join([describe(arguments[0]), *limits])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and Ellipsis not in arguments:
        same = len(set(arguments)) == 1
        return f"a list of {len(arguments)} {_plural(arguments[0])}" if same else f"a list of {len(arguments)} values"
    if origin in (tuple, list, Sequence):
        return f"a list of {_plural(arguments[0])}" if arguments else "a list"
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Path: "a path",
        type(None): "null",
        Any: "any value",
    }
    if hint in names:
        return names[hint]
    return (
        "a map" if origin in (dict, Mapping) or dataclasses.is_dataclass(hint) else getattr(hint, "__name__", str(hint))
    )


def shown(value: Any) -> str:
    """A value in a message: quoted text, short."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, str):
        return f'"{value[:57]}..."' if len(value) > 60 else f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if len(value) > 6 else "[" + ", ".join(shown(part) for part in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:60]


def join(where: str, key: str) -> str:
    """Key path one level down."""
    return f"{where}.{key}" if where else key


def file_fields(schema: type) -> dict[str, Raster | SceneFile]:
    """The fields of a geometry dataclass that name pictures or other files, by name."""
    found: dict[str, Raster | SceneFile] = {}
    for name, hint in get_type_hints(schema, include_extras=True).items():
        for part in (hint, *get_args(hint)):
            marks = get_args(part)[1:] if get_origin(part) is Annotated else ()
            files = [mark for mark in marks if isinstance(mark, (Raster, SceneFile))]
            if files:
                found[name] = files[0]
    return found


def _nearest_key(key: str, known: Sequence[str], hints: Mapping[str, Any]) -> str:
    """The nearest key of this map, else of a map one level down (``lrr`` -> ``optimizer.lr``), else all keys."""
    if near := nearest_name(key, known):
        return near
    records = {name: hint for name, hint in hints.items() if isinstance(hint, type) and dataclasses.is_dataclass(hint)}
    below = {field.name: f"{name}.{field.name}" for name, hint in records.items() for field in dataclasses.fields(hint)}
    close = get_close_matches(key, list(below), n=1, cutoff=0.6)
    return f"did you mean '{below[close[0]]}'?" if close else f"known keys: {listed(known)}"


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plural(hint: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts", bool: "true/false values"}.get(hint, "values")


def _refuse(hint: Any, value: Any, where: str, problems: list[Problem], remedy: str = "") -> Any:
    problems.append(Problem(where, f"found {shown(value)}, expected {describe(hint)}", remedy))
    return None


def _convert_limited(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    base, *marks = get_args(hint)
    attempt: list[Problem] = []
    converted = convert(base, value, where, attempt)
    infinite = isinstance(value, float) and not math.isfinite(value)
    if attempt and (base not in (int, float) or infinite):
        problems.extend(attempt)
        return None
    limits = [mark for mark in marks if isinstance(mark, Range)]
    if attempt or (isinstance(converted, (int, float)) and not all(limit.admits(converted) for limit in limits)):
        return _refuse(hint, value, where, problems)
    return converted


def _convert_union(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    for choice in get_args(hint):
        attempt: list[Problem] = []
        converted = convert(choice, value, where, attempt)
        if not attempt:
            return converted
        if _same_shape(choice, value):
            problems.extend(attempt)
            return None
    return _refuse(hint, value, where, problems)


def _same_shape(choice: Any, value: Any) -> bool:
    """Whether a choice of a union is what the user meant, so that its own problems are the ones to report."""
    if isinstance(value, Mapping):
        return dataclasses.is_dataclass(choice)
    is_list = get_origin(choice) in (tuple, list, Sequence)
    return is_list and isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _convert_record(hint: type, value: Any, where: str, problems: list[Problem]) -> Any:
    if isinstance(value, hint):
        return value
    if not isinstance(value, Mapping):
        return _refuse(hint, value, where, problems)
    checked = build(hint, value, where)
    problems.extend(checked.problems)
    return checked.value


def _convert_sequence(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return _refuse(hint, value, where, problems)
    arguments = get_args(hint)
    if hint in (tuple, list) and not arguments:
        return list(value) if hint is list else tuple(value)
    fixed = get_origin(hint) is tuple and Ellipsis not in arguments
    if fixed and len(value) != len(arguments):
        problems.append(Problem(where, f"found {len(value)} values, expected {describe(hint)}"))
        return None
    hints = arguments if fixed else (arguments[:1] or (Any,)) * len(value)
    parts = [
        convert(part, item, f"{where}[{i}]", problems) for i, (part, item) in enumerate(zip(hints, value, strict=True))
    ]
    return parts if get_origin(hint) is list or hint is list else tuple(parts)


def _convert_mapping(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        return _refuse(hint, value, where, problems)
    arguments = get_args(hint)
    inner = arguments[1] if len(arguments) == 2 else Any
    return {str(key): convert(inner, item, join(where, str(key)), problems) for key, item in value.items()}


def _convert_scalar(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:  # noqa: PLR0911  # one case per kind of hint
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            problems.append(Problem(where, f"found {value}, expected a finite number"))
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool) and type(value) is hint:
        return value
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    if hint is type(None) and value is None:
        return None
    if hint not in (int, float, str, bool, type(None)) and isinstance(hint, type) and isinstance(value, hint):
        return value
    remedy = "quote it" if hint in (str, Path) and isinstance(value, (bool, int, float)) else ""
    return _refuse(hint, value, where, problems, remedy)
