"""The plain data of ``explain`` as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TOLD_ELSEWHERE = frozenset({"train", "broken_plugins"})
"""Long parts that ``--json`` gives in full."""


def outline(document: Mapping[str, Any]) -> list[str]:
    """One line per fact."""
    lines: list[str] = []
    for key, value in document.items():
        if key == "components":
            lines += ["components:", *_components(value)]
        elif key == "stages":
            lines += ["stages:", *map(_stage, value)]
        elif key not in _TOLD_ELSEWHERE and value not in (None, {}, []):
            lines += _facts(key, value, "")
    lines += [f"BROKEN {broken}" for broken in document.get("broken_plugins", ())]
    return lines


def _components(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    widths = {column: max((len(row[column]) for row in rows), default=0) for column in ("key", "name")}
    for row in rows:
        plugin = f"{row['distribution']} {row['version']} ({row['plugin']})"
        yield f"  {row['key'].ljust(widths['key'])}  {row['name'].ljust(widths['name'])}  {plugin}: {row['summary']}"


def _stage(row: Mapping[str, Any]) -> str:
    low, high = row["subjects"]["min"], row["subjects"]["max"]
    subjects = f"{low} or more subjects" if high is None else f"{low} to {high} subjects"
    steps = f"steps {row['first_step']} to {row['last_step']}"
    return f"  {row['stage']}: {steps}, {subjects}, from {', '.join(row['datasources'])}, optimizer: {row['optimizer']}"


def _facts(key: str, value: Any, indent: str) -> Iterator[str]:
    if key == "counted_for":
        yield f"{indent}{key}: {_counted_for(value)}"
        return
    if key in _TOLD_ELSEWHERE:
        return
    if isinstance(value, Mapping) and value:
        yield f"{indent}{key}:"
        for name, part in value.items():
            yield from _facts(f"{name}", _sized(part) if key == "memory_bytes" else part, f"{indent}  ")
    else:
        yield f"{indent}{key}: {_shown(value)}"


def _counted_for(facts: Mapping[str, Any]) -> str:
    """What tokens and memory were counted for."""
    height, width = facts["size_hw"]
    side = facts["identity_size"]
    identity = f"{side[1]} x {side[0]}" if isinstance(side, list | tuple) else f"{side} x {side}"
    batch = f", batch {facts['batch_size']} per device" if facts["task"] == "train" else ""
    return f"{facts['subjects']} subjects of {identity} pixels in an image of {width} x {height}{batch}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return "null" if value is None else str(value)


def _sized(value: Any) -> Any:
    return f"{value / 1e9:.2f} GB" if isinstance(value, (int, float)) else value
