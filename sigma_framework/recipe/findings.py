"""Collects what a check finds, and words it with the file that wrote the value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigma_framework.dataclass_schema import build, convert, shown
from sigma_framework.errors import Problem
from sigma_framework.recipe.load import LoadedRecipe
from sigma_framework.recipe.origins import KeyPath, dotted
from sigma_framework.recipe.paths import place_paths

_MISSING = "???"
"""OmegaConf's mark for a value that a recipe leaves to whoever extends it."""
_SHORTEST_SECRET = 4
_SHOWN = 57
"""``dataclass_schema.shown`` cuts longer texts here."""


@dataclass
class Findings:
    """Problems and paths of one recipe, while it is checked."""

    loaded: LoadedRecipe
    """What is checked."""
    problems: list[Problem]
    """Found so far."""
    files: dict[str, Path] = field(default_factory=dict)
    """Absolute paths by key path."""

    def add(self, where: str, what: str, remedy: str = "") -> None:
        """One more problem."""
        self.problems.append(Problem(where, what, remedy))

    def block(self, path: KeyPath) -> Mapping[str, Any]:
        """The map at a top-level key; an empty one when it is absent or not a map (then with a problem)."""
        data = self.loaded.data.get(path[0], {})
        if isinstance(data, Mapping):
            return data
        self.add(dotted(path), f"found {shown(data)}, expected a map")
        return {}

    def record(self, schema: type, data: Mapping[str, Any], path: KeyPath, beside: Iterable[str] = ()) -> Any:
        """``data`` as an instance of ``schema`` with absolute paths; None when something is wrong.

        ``beside`` are keys that the block may have and that are read elsewhere.
        """
        complete = self._without_gaps(data, path)
        located = place_paths(schema, complete, path, self.loaded.origin)
        self.files.update(located.files)
        checked = build(schema, located.data, dotted(path), beside)
        gaps = {dotted((*path, key)) for key in data if key not in complete}
        self.problems.extend(located.problems)
        self.problems.extend(p for p in checked.problems if p.where not in gaps)
        return None if located.problems or gaps else checked.value

    def value(self, hint: Any, data: Any, path: KeyPath) -> Any:
        """One value by a type hint; None when it is wrong."""
        return convert(hint, data, dotted(path), self.problems)

    def worded(self, problem: Problem) -> Problem:
        """The problem with secrets taken out, and with the file when it is not the recipe itself."""
        what, remedy = self._redacted(problem.what), self._redacted(problem.remedy)
        origin = self.loaded.origin(_key_path(problem.where))
        if origin.kind == "override":
            what = f"{what} (from an override)"
        elif origin.file is not None and origin.file != self.loaded.path:
            what = f"{what} (written in {origin.file.name})"
        return Problem(problem.where, what, remedy)

    def _without_gaps(self, data: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        complete = dict(data)
        for key, value in data.items():
            if value == _MISSING:
                self.add(
                    dotted((*path, key)), "missing, expected a value", "the recipe that is extended leaves it open"
                )
                del complete[key]
        return complete

    def _redacted(self, text: str) -> str:
        for name, secret in self.loaded.secrets.items():
            for part in (secret, secret[:_SHOWN]):
                text = text.replace(part, f"${{env:{name}}}") if len(part) >= _SHORTEST_SECRET else text
        return text


def _key_path(where: str) -> KeyPath:
    return tuple(re.sub(r"\[\d+\]", "", where).split("."))
