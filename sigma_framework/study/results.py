"""The only reader of result folders: which images there are, and the scene of each.

A folder is read as what it holds: a ``manifest.json`` that lists images with their scenes (in it or in its
``images/``), or images of ``sigma-run`` that carry their scene.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sigma_framework.dataclass_schema import build
from sigma_framework.errors import DataError, Problem

MANIFEST = "manifest.json"
SCENE_TEXT = "sigma.scene"
"""PNG text key that an image of ``sigma-run`` carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultImage:
    """One image and what it was made from."""

    image: Path
    """The picture."""
    scene: Path
    """A scene document, or an image that carries one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The images of one system."""

    system: str
    """What made them."""
    images: Mapping[str, ResultImage]
    """By a key that the same scene has in another system's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    image: str
    scene: str
    key: str = ""
    source: str = ""


def read_results(folder: Path) -> Results:
    """The images of a folder with their scenes.

    Raises:
        DataError: with every problem of the folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected the results of sigma-run or of another system")
    for place in (folder, folder / "images"):
        if (place / MANIFEST).is_file():
            return _of_manifest(place, folder.resolve().name)
    images = {
        path.stem: ResultImage(image=path, scene=path) for path in sorted(folder.glob("*.png")) if _has_scene(path)
    }
    if not images:
        what = f"no {MANIFEST}, and no image that carries its scene"
        raise DataError(
            f"{folder}: {what}; give a folder that sigma-run wrote, or list images and scenes in a {MANIFEST}"
        )
    return Results(system=folder.resolve().name, images=images)


def _of_manifest(folder: Path, name: str) -> Results:
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected JSON in UTF-8") from None
    listed = data.get("images") if isinstance(data, dict) else None
    if not isinstance(listed, list) or not listed:
        raise DataError(str(path), [Problem("images", "expected a list with at least one entry")])
    problems: list[Problem] = []
    images: dict[str, ResultImage] = {}
    for number, given in enumerate(listed):
        where = f"images[{number}]"
        entry = _entry(given, where, problems)
        if entry is None:
            continue
        places = {key: _place(folder, getattr(entry, key), f"{where}.{key}", problems) for key in ("image", "scene")}
        key = f"{entry.source}/{entry.key}" if entry.key else Path(entry.image).stem
        if key in images:
            problems.append(Problem(where, f'found "{key}" a second time, expected each scene once'))
        images[key] = ResultImage(**places)
    if problems:
        raise DataError(str(path), problems)
    system = data.get("system")
    return Results(system=system if isinstance(system, str) and system else name, images=images)


def _entry(given: Any, where: str, problems: list[Problem]) -> _Entry | None:
    if not isinstance(given, dict):
        problems.append(Problem(where, f"found {type(given).__name__}, expected a map"))
        return None
    known = {key: given[key] for key in ("image", "scene", "key", "source") if key in given}
    checked = build(_Entry, known, where)
    problems.extend(checked.problems)
    entry: _Entry | None = checked.value
    return entry


def _place(folder: Path, name: str, where: str, problems: list[Problem]) -> Path:
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        problems.append(Problem(where, f'found "{name}", expected a file in the folder of the manifest'))
    elif not path.is_file():
        problems.append(Problem(where, f'file not found: "{name}"'))
    return path


def _has_scene(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return SCENE_TEXT in getattr(image, "text", {})
    except (OSError, ValueError, SyntaxError):
        return False
