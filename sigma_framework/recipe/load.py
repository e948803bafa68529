"""A recipe argument -> merged, resolved plain data that remembers where each value was written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigma_framework.dataclass_schema import shown
from sigma_framework.errors import Problem, RecipeError
from sigma_framework.recipe.locate import locate
from sigma_framework.recipe.merge import merge
from sigma_framework.recipe.origins import DEFAULT, OVERRIDE, KeyPath, Origin, Tree, leaves, planted
from sigma_framework.recipe.overrides import apply_overrides, parse_overrides, variant_overrides
from sigma_framework.recipe.reading import check_plain, read_file
from sigma_framework.recipe.references import Resolved, resolve


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe after ``extends``, overrides and references, before it is checked against schemas."""

    name: str
    """The file's name without ``.yaml``; ``recipe`` for a mapping."""
    path: Path | None
    """The file; None for a mapping."""
    data: Mapping[str, Any]
    """Resolved plain data."""
    redacted: Mapping[str, Any]
    """The same with values from the environment left as ``${env:NAME}``."""
    origins: Mapping[KeyPath, Origin]
    """Where each value was written, by key path; what is missing here is a default."""
    problems: tuple[Problem, ...]
    """What ``check_recipe`` reports besides its own findings: bad overrides and references."""
    allow_env: tuple[str, ...] = ()
    """Environment variables that the caller lets the recipe read."""
    tree: Tree = field(repr=False)
    """The merged values before references are resolved; variants are made from it."""
    secrets: Mapping[str, str] = field(repr=False)
    """Values read from the environment, by variable name."""

    @property
    def label(self) -> str:
        """What messages call this recipe."""
        return str(self.path) if self.path else self.name

    def origin(self, path: KeyPath) -> Origin:
        """Where the value at a key path was written; the nearest written ancestor's for a part of a list."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.origins:
                return self.origins[path[:depth]]
        return DEFAULT


def load_recipe(
    argument: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), allow_env: Sequence[str] = ()
) -> LoadedRecipe:
    """Reads a recipe with everything it extends, lays the overrides over it and resolves references.

    Args:
        argument: path or shipped name of a recipe, or its content as a mapping.
        overrides: ``key.path=value`` texts, later ones win.
        allow_env: environment variables that ``${env:NAME}`` may read.

    Raises:
        RecipeError: a file is missing or unreadable, or ``extends`` goes in a circle. Bad overrides and references
            are kept in ``problems`` instead, so that ``check_recipe`` reports them together with all others.
    """
    problems: list[Problem] = []
    path: Path | None = None
    if isinstance(argument, Mapping):
        tree = _tree_of(_plain(argument), Origin(kind="mapping"), (), problems)
    else:
        path = locate(argument)
        tree = _read(path, (), problems)
    tree = apply_overrides(tree, parse_overrides(overrides, problems), OVERRIDE, problems)
    return _finish(tree, "recipe" if path is None else path.stem, path, tuple(allow_env), problems)


def load_variant(loaded: LoadedRecipe, name: str, also: Mapping[str, Any] | None = None) -> LoadedRecipe:
    """One variant of a sweep: the recipe with the overrides of ``sweep.variants.<name>``, named ``<recipe>-<name>``.

    Args:
        loaded: the sweep's recipe.
        name: of the variant.
        also: further overrides, dotted key to value, laid over the variant's own.

    Raises:
        RecipeError: there is no such variant.
    """
    variants = _mapping(_mapping(loaded.redacted.get("sweep")).get("variants"))
    if name not in variants:
        raise RecipeError(loaded.label, [Problem(f"sweep.variants.{name}", "no such variant")])
    problems: list[Problem] = []
    tree = loaded.tree
    for origin, keys in _by_origin(loaded, name, _mapping(variants[name])):
        tree = apply_overrides(tree, variant_overrides(keys), origin, problems)
    tree = apply_overrides(tree, variant_overrides(also or {}), OVERRIDE, problems)
    return _finish(tree, f"{loaded.name}-{name}", loaded.path, loaded.allow_env, problems)


def _by_origin(loaded: LoadedRecipe, name: str, variant: Mapping[str, Any]) -> list[tuple[Origin, dict[str, Any]]]:
    """A variant's keys by where they were written: paths on the command line are relative to the current folder."""
    found: dict[Origin, dict[str, Any]] = {}
    for key, value in variant.items():
        written = loaded.origin(("sweep", "variants", name, key))
        found.setdefault(Origin(kind=written.kind, file=written.file), {})[key] = value
    return list(found.items())


def _finish(
    tree: Tree, name: str, path: Path | None, allow_env: tuple[str, ...], problems: list[Problem]
) -> LoadedRecipe:
    resolved = resolve(tree, allow_env, os.environ)
    return LoadedRecipe(
        name=name,
        path=path,
        data=resolved.data,
        redacted=resolved.redacted,
        origins=_origins(tree, resolved),
        problems=(*problems, *resolved.problems),
        allow_env=allow_env,
        tree=tree,
        secrets=resolved.secrets,
    )


def _origins(tree: Tree, resolved: Resolved) -> dict[KeyPath, Origin]:
    """Origins by key path; a value that is a reference comes from where the value itself was written."""
    found = {path: leaf.origin for path, leaf in leaves(tree).items()}
    for path, target in resolved.aliases.items():
        seen, end = {path}, target
        while end in resolved.aliases and end not in seen:
            seen.add(end)
            end = resolved.aliases[end]
        if end in found:
            found[path] = found[end]
    return found


def _read(path: Path, chain: tuple[Path, ...], problems: list[Problem]) -> Tree:
    real = path.resolve()
    if real in chain:
        circle = " extends ".join(step.name for step in (*chain[chain.index(real) :], real))
        raise RecipeError(str(chain[0]), [Problem("extends", f"found a circle: {circle}", "break it")])
    return _tree_of(read_file(path), Origin(kind="file", file=path), (*chain, real), problems)


def _tree_of(data: dict[str, Any], origin: Origin, chain: tuple[Path, ...], problems: list[Problem]) -> Tree:
    label = str(origin.file or "recipe")
    extends = data.pop("extends", None)
    parents = [extends] if isinstance(extends, str) else [] if extends is None else extends
    if not isinstance(parents, list) or not all(isinstance(parent, str) and parent for parent in parents):
        what = f"found {shown(extends)}, expected a file name or a list of them"
        raise RecipeError(label, [Problem("extends", what)])
    tree: Tree = {}
    for parent in parents:
        try:
            place = locate(parent, origin.folder)
        except RecipeError as error:
            what = f"found {shown(parent)}: {error.problems[0].what}"
            raise RecipeError(label, [Problem("extends", what, error.problems[0].remedy)]) from error
        tree = merge(tree, _read(_straight(place), chain, problems), problems)
    return merge(tree, planted(data, origin), problems)


def _straight(path: Path) -> Path:
    """Without ``..``, so that a circle is noticed however it is spelt."""
    return Path(os.path.normpath(path))


def _plain(argument: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping given in Python as plain data: paths become text, tuples lists."""
    problems: list[Problem] = []
    check_plain(argument, "", problems)
    if problems:
        raise RecipeError("recipe", problems)
    plain = _plain_value(argument)
    assert isinstance(plain, dict)
    return plain


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
