"""MS-Bench of MS-Diffusion: a folder of pictures by type, and a Python file of prompts and boxes, read as data.

The benchmark's texts stay in its own repository; nothing of its file is run.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

from sigma_framework.dataclass_schema import convert
from sigma_framework.errors import DataError, Problem
from sigma_framework.scene_import.records import Box, Findings, Layout, PlacedSubject

PICTURES = "msbench"
"""Folder of the pictures in the repository: ``msbench/<type>/<subject>.<ending>``."""
TABLES = "msdiffusion/dataset/prompts/msbench.py"
"""File of the prompts and boxes in the repository."""

_NAMES = {
    "data_class_dict": dict[str, str],
    "subject_combination_boxes": dict[str, list[Box]],
    "subject_combination_prompts": dict[str, list[str]],
}


def read_msbench(root: Path, found: Findings) -> Iterator[Layout]:
    """Every combination of subjects with every prompt of its type: 4,488 scenes when all 40 pictures are there."""
    tables = _tables(root / TABLES, found)
    pictures = _pictures(root / PICTURES)
    if found.problems:
        return
    words, boxes, prompts = (tables[name] for name in _NAMES)
    there = {name for files in pictures.values() for name in files}
    missing = sorted(set(words) - there)
    if missing:
        found.notes.append(f"{PICTURES}: no picture of {', '.join(missing)}; left out")
    for kind, places in boxes.items():
        types = kind.split("_")
        if len(places) != len(types) or kind not in prompts:
            found.problems.append(
                Problem(f"subject_combination_boxes.{kind}", f"expected {len(types)} boxes and prompts")
            )
            continue
        for chosen in _combinations(types, pictures):
            for number, prompt in enumerate(prompts[kind]):
                names = [words.get(name, name) for name in chosen]
                where = f"{kind}: {', '.join(chosen)}"
                key = "-".join([kind, *chosen, str(number)])
                files = [f"{PICTURES}/{pictures[one][name]}" for one, name in zip(types, chosen, strict=True)]
                yield Layout(
                    key=key,
                    where=where,
                    prompt=prompt.format(*names),
                    size=None,
                    subjects=_subjects(where, files, names, places),
                )


def _subjects(where: str, files: list[str], names: list[str], places: list[Box]) -> tuple[PlacedSubject, ...]:
    """In the benchmark's order, a place that fills the picture first: everything else stands before it."""
    subjects = [
        PlacedSubject(where=where, image=file, caption=f"a {name}", label=name, box=box)
        for file, name, box in zip(files, names, places, strict=True)
    ]
    return tuple(sorted(subjects, key=lambda one: one.box != (0.0, 0.0, 1.0, 1.0)))


def _combinations(types: list[str], pictures: dict[str, dict[str, str]]) -> Iterator[tuple[str, ...]]:
    """Sets of different subjects where a type comes several times, all pairs of them across types."""
    counts = Counter(types)
    for groups in product(*(combinations(sorted(pictures.get(one, {})), many) for one, many in counts.items())):
        yield tuple(name for group in groups for name in group)


def _pictures(folder: Path) -> dict[str, dict[str, str]]:
    """Type -> subject -> file below the folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected the pictures of MS-Bench by type")
    return {
        kind.name: {file.stem: f"{kind.name}/{file.name}" for file in sorted(kind.iterdir()) if file.suffix}
        for kind in sorted(folder.iterdir())
        if kind.is_dir()
    }


def _tables(path: Path, found: Findings) -> dict[str, Any]:
    """The file's tables; assignments of literals and of names assigned before, anything else is passed over."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), expected MS-Diffusion's prompts and boxes"
        ) from None
    except (SyntaxError, ValueError):
        raise DataError(f"{path}: is not Python") from None
    values: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                values[statement.targets[0].id] = _literal(statement.value, values)
            except (ValueError, KeyError):
                continue
    for name, hint in _NAMES.items():
        if name not in values:
            found.problems.append(Problem(name, "missing, expected a table of literals"))
        else:
            values[name] = convert(hint, values[name], name, found.problems)
    return values


def _literal(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_literal(key, known) for key in node.keys if key is not None]
        return dict(zip(keys, (_literal(value, known) for value in node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(part, known) for part in node.elts]
    return ast.literal_eval(node)
