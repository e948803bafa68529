"""References in a recipe: ``${other.key}`` and ``${env:NAME}`` for allowed names, and nothing else.

Every text with ``${`` is scanned whole before anything is looked up, so a resolver cannot be built from pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sigma_framework.dataclass_schema import shown
from sigma_framework.errors import Problem, nearest_name
from sigma_framework.recipe.origins import KeyPath, Leaf, Tree, dotted, node_at
from sigma_framework.recipe.reading import REFERENCE_REMEDY

_TOKEN = re.compile(r"\$\{(?:env:(?P<env>[A-Za-z_]\w*)|(?P<key>[A-Za-z_][\w-]*(?:\.[\w-]+)*))\}")
MAX_NODES = 20_000
"""Values in a resolved recipe; references to lists of references could grow without end."""
MAX_TEXT = 200_000
"""Characters in one resolved text."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe's data with references replaced."""

    data: dict[str, Any]
    """Plain data to work with."""
    redacted: dict[str, Any]
    """The same with ``${env:NAME}`` left as text: what may be printed, stored and embedded."""
    secrets: Mapping[str, str] = field(repr=False)
    """Values that were read from the environment, by variable name."""
    aliases: Mapping[KeyPath, KeyPath]
    """Keys whose whole value is a reference, and what they refer to."""
    problems: tuple[Problem, ...]
    """References that could not be resolved; their text stays as it is."""


def resolve(tree: Tree, allow_env: Collection[str], environment: Mapping[str, str]) -> Resolved:
    """Replaces every reference of a tree.

    Args:
        tree: merged recipe.
        allow_env: names of environment variables that may be read.
        environment: where they are read.
    """
    problems: list[Problem] = []
    secrets: dict[str, str] = {}

    def read(name: str, where: str) -> str | None:
        if name not in allow_env:
            what = f"found ${{env:{name}}}, which reads the environment, expected a value or an allowed name"
            problems.append(Problem(where, what, f"allow it with --allow-env {name}"))
        elif name not in environment:
            problems.append(Problem(where, f"found ${{env:{name}}}, but {name} is not set", f"set {name}"))
        else:
            secrets[name] = environment[name]
            return environment[name]
        return None

    walk = _Walk(tree, read, problems)
    data = walk.map(tree, ())
    redacted = _Walk(tree, lambda name, where: None, []).map(tree, ())
    return Resolved(data, redacted, secrets, walk.aliases, tuple(problems))


class _Walk:
    """One pass over a tree; keys that are being resolved are remembered to find cycles."""

    def __init__(self, tree: Tree, read: Callable[[str, str], str | None], problems: list[Problem]) -> None:
        self._tree = tree
        self._read = read
        self._problems = problems
        self._busy: list[KeyPath] = []
        self._nodes = 0
        self.aliases: dict[KeyPath, KeyPath] = {}

    def map(self, tree: Tree, path: KeyPath) -> dict[str, Any]:
        return {key: self.node(node, (*path, key)) for key, node in tree.items()}

    def node(self, node: Tree | Leaf, path: KeyPath) -> Any:
        if path in self._busy:
            return self._refuse_cycle(path)
        self._busy.append(path)
        resolved = self.value(node.value, path) if isinstance(node, Leaf) else self.map(node, path)
        self._busy.pop()
        return resolved

    def value(self, value: Any, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                self._problems.append(Problem(dotted(path), f"found more than {MAX_NODES} values through references"))
            return None
        if isinstance(value, Mapping):
            return {str(key): self.value(item, path) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item, path) for item in value]
        return self.text(value, path) if isinstance(value, str) and "${" in value else value

    def text(self, text: str, path: KeyPath) -> Any:
        if "${" in _TOKEN.sub("", text):
            self._problems.append(
                Problem(dotted(path), f"found {shown(text)}, expected no resolver in a recipe", REFERENCE_REMEDY)
            )
            return text
        whole = _TOKEN.fullmatch(text)
        if whole and whole["key"]:
            self.aliases[path] = tuple(whole["key"].split("."))
            return self._lookup(whole["key"], path)
        joined = _TOKEN.sub(lambda token: self._piece(token, path), text)
        if len(joined) > MAX_TEXT:
            self._problems.append(Problem(dotted(path), f"found more than {MAX_TEXT} characters through references"))
            return None
        return joined

    def _piece(self, token: re.Match[str], path: KeyPath) -> str:
        if token["env"]:
            value = self._read(token["env"], dotted(path))
            return token[0] if value is None else value
        value = self._lookup(token["key"], path)
        if isinstance(value, (dict, list)):
            self._problems.append(
                Problem(dotted(path), f"found {token[0]} inside a text, but it is not a single value")
            )
            return token[0]
        return shown(value).strip('"') if isinstance(value, bool) else str(value)

    def _lookup(self, key: str, path: KeyPath) -> Any:
        target = tuple(key.split("."))
        node = node_at(self._tree, target)
        if node is None:
            siblings = node_at(self._tree, target[:-1]) if target[:-1] else self._tree
            near = nearest_name(target[-1], siblings) if isinstance(siblings, dict) else ""
            what = f"found ${{{key}}}, but no key {key} is written in this recipe"
            self._problems.append(Problem(dotted(path), what, near))
            return f"${{{key}}}"
        return self.node(node, target)

    def _refuse_cycle(self, path: KeyPath) -> None:
        circle = [dotted(step) for step in [*self._busy[self._busy.index(path) :], path]]
        self._problems.append(Problem(circle[0], f"found a reference in a circle: {' -> '.join(circle)}", "break it"))
