"""Merging of recipes: by key for maps, everything else is replaced; every value keeps its origin."""

from __future__ import annotations

from sigma_framework.errors import Problem, nearest_name
from sigma_framework.recipe.origins import KeyPath, Leaf, Tree, dotted
from sigma_framework.recipe.schema import OWN_NAMES

_BLOCK_LEVEL = 1


def merge(below: Tree, above: Tree, problems: list[Problem], path: KeyPath = ()) -> Tree:
    """``above`` laid over ``below``; neither is changed.

    * maps are merged by key, everything else is replaced;
    * ``name: null`` removes an inherited entry of a map of the user's own names, and ``block: null`` a whole block;
    * a map whose ``type`` changes starts from nothing, so that no option of the old type is left.

    Args:
        below: what is inherited.
        above: what is written over it.
        problems: removals of what is not there are added.
        path: key path of both.
    """
    merged = {} if changes_type(below, above) else dict(below)
    for key, node in above.items():
        here = (*path, key)
        old = merged.get(key)
        if is_removal(node, here):
            if old is None and path in OWN_NAMES:
                problems.append(nothing_to_remove(here, merged))
            merged.pop(key, None)
        elif isinstance(node, Leaf):
            merged[key] = node
        else:
            merged[key] = merge({} if old is None or isinstance(old, Leaf) else old, node, problems, here)
    return merged


def changes_type(below: Tree, above: Tree) -> bool:
    """Whether both maps name a ``type``, and not the same."""
    old, new = below.get("type"), above.get("type")
    return isinstance(old, Leaf) and isinstance(new, Leaf) and old.value != new.value


def is_removal(node: Tree | Leaf, path: KeyPath) -> bool:
    """Whether a null at this place takes something away instead of being a value."""
    removable = path[:-1] in OWN_NAMES or path in OWN_NAMES or (len(path) == _BLOCK_LEVEL and path[0] in _BLOCKS)
    return isinstance(node, Leaf) and node.value is None and removable


def nothing_to_remove(path: KeyPath, siblings: Tree) -> Problem:
    """The problem of a null for a name that nobody inherited."""
    remedy = nearest_name(path[-1], siblings) or "leave it out"
    return Problem(
        dotted(path), "found nothing, which removes an inherited entry, but no such entry is inherited", remedy
    )


_BLOCKS = frozenset({"backbone", "sampler", "run", "conditioning", "train", "evaluate", "build", "sweep", "plugins"})
