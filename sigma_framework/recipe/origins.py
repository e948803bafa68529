"""A tree of values that remember where they were written, before references are resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

KeyPath: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value was written."""

    kind: Literal["file", "override", "mapping", "default"]
    """A recipe file, the command line, a mapping given in Python, or nobody: the default."""
    file: Path | None = None
    """The file, for ``file``."""
    key: str = ""
    """Key path where it was written."""

    def __str__(self) -> str:
        return f"{self.file.name}:{self.key}" if self.file else self.kind

    @property
    def folder(self) -> Path:
        """What a relative path written here is relative to."""
        return self.file.parent if self.file else Path.cwd()


DEFAULT = Origin(kind="default")
OVERRIDE = Origin(kind="override")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that is not a map: a scalar or a list."""

    value: Any
    """Plain data."""
    origin: Origin
    """Who wrote it."""


Tree: TypeAlias = "dict[str, Tree | Leaf]"


def planted(data: Mapping[str, Any], origin: Origin, prefix: str = "") -> Tree:
    """Plain data as a tree whose leaves all have one origin."""
    tree: Tree = {}
    for key, value in data.items():
        where = f"{prefix}.{key}" if prefix else key
        tree[key] = planted(value, origin, where) if isinstance(value, Mapping) else Leaf(value, _at(origin, where))
    return tree


def leaves(tree: Tree, prefix: KeyPath = ()) -> dict[KeyPath, Leaf]:
    """Every leaf by its key path, in the order written."""
    found: dict[KeyPath, Leaf] = {}
    for key, node in tree.items():
        if isinstance(node, Leaf):
            found[(*prefix, key)] = node
        else:
            found.update(leaves(node, (*prefix, key)))
    return found


def node_at(tree: Tree, path: KeyPath) -> Tree | Leaf | None:
    """The node at a key path; None when there is none."""
    node: Tree | Leaf = tree
    for key in path:
        if isinstance(node, Leaf) or key not in node:
            return None
        node = node[key]
    return node


def dotted(path: KeyPath) -> str:
    """``("train", "lr")`` as ``train.lr``."""
    return ".".join(path)


def _at(origin: Origin, where: str) -> Origin:
    return Origin(kind=origin.kind, file=origin.file, key=where)
