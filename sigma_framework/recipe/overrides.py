"""``key=value``: dotted paths laid over a merged recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sigma_framework.dataclass_schema import shown
from sigma_framework.errors import Problem, listed, nearest_name
from sigma_framework.recipe.merge import is_removal, merge, nothing_to_remove
from sigma_framework.recipe.origins import KeyPath, Leaf, Origin, Tree, dotted, node_at, planted
from sigma_framework.recipe.reading import parse_value
from sigma_framework.recipe.schema import OWN_NAMES

_IDENTIFYING = frozenset({"type", "path", "control", "mixed"})
"""Keys that make a dotted override a new entry and not a misspelt one."""


@dataclass(frozen=True, slots=True)
class Override:
    """One ``key=value``."""

    path: KeyPath
    """Where."""
    value: Any
    """Plain data; a map is merged, null in a map of own names removes."""


def parse_overrides(texts: Sequence[str], problems: list[Problem]) -> list[Override]:
    """``["run.seed=1"]`` as overrides; what cannot be read becomes a problem."""
    parsed: list[Override] = []
    for text in texts:
        key, separator, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not separator or not all(path):
            problems.append(Problem("", f"found {shown(text)}, expected key=value", "e.g. run.seed=1"))
            continue
        before = len(problems)
        data = parse_value(value, problems, dotted(path))
        if len(problems) == before:
            parsed.append(Override(path, data))
    return parsed


def variant_overrides(variant: Mapping[str, Any]) -> list[Override]:
    """A sweep's variant, ``{sampler.steps: 8}``, as overrides."""
    return [Override(tuple(key.split(".")), value) for key, value in variant.items()]


def apply_overrides(tree: Tree, overrides: Sequence[Override], origin: Origin, problems: list[Problem]) -> Tree:
    """The tree with every override laid over it; those that name what does not exist become problems.

    Keys that the schema knows and the recipe does not write are accepted here; unknown ones are found when the whole
    recipe is checked, together with everything else.
    """
    # A new type first: it empties its block, also when it is written after that block's options.
    ordered = sorted(overrides, key=lambda override: override.path[-1] != "type")
    introduced = {override.path[:-1] for override in overrides if override.path[-1] in _IDENTIFYING}
    for override in ordered:
        problem = _refusal(tree, override, introduced)
        if problem:
            problems.append(problem)
            continue
        tree = merge(tree, _branch(override, origin), problems)
    return tree


def _branch(override: Override, origin: Origin) -> Tree:
    key = dotted(override.path)
    value = override.value
    written = Origin(kind=origin.kind, file=origin.file, key=key)
    branch: Tree | Leaf = planted(value, origin, key) if isinstance(value, Mapping) else Leaf(value, written)
    for part in reversed(override.path):
        branch = {part: branch}
    assert isinstance(branch, dict)
    return branch


def _refusal(tree: Tree, override: Override, introduced: set[KeyPath]) -> Problem | None:
    path = override.path
    if path[0] == "extends":
        return Problem(
            "extends", "found an override, but what a recipe extends is fixed", "write a recipe that extends both"
        )
    for depth in range(1, len(path)):
        node = node_at(tree, path[:depth])
        if isinstance(node, Leaf) and node.value is not None:
            return Problem(
                dotted(path), f"{dotted(path[:depth])} is {shown(node.value)}, expected a map to set a key of"
            )
    for depth in range(1, len(path) + 1):
        if path[: depth - 1] in OWN_NAMES:
            return _refuse_name(tree, override, depth, introduced)
    return None


def _refuse_name(tree: Tree, override: Override, depth: int, introduced: set[KeyPath]) -> Problem | None:
    """Whether ``map.<name>...`` names an entry that is not there, without making a new one."""
    path = override.path
    entry, name = path[:depth], path[depth - 1]
    siblings = node_at(tree, path[: depth - 1])
    known = siblings if isinstance(siblings, dict) else {}
    if name in known or entry in introduced:
        return None
    if len(path) == depth:
        if is_removal(Leaf(override.value, Origin(kind="override")), path):
            return nothing_to_remove(path, known)
        return None
    remedy = nearest_name(name, known) or f"known: {listed(known)}"
    new = f"{dotted(entry)}={{{path[depth]}: ...}}"
    return Problem(
        dotted(path), f"no entry '{name}' in {dotted(path[: depth - 1])}", f"{remedy} (a new entry is written {new})"
    )
