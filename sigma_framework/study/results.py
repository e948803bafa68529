"""The only reader of result folders: which images there are, and the scene of each.

A folder is read as what it holds: a ``manifest.json`` of an evaluation (in it or in its ``images/``), or images of
``sigma-run`` that carry their scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

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
    """Images of a manifest by source and key, or by the image's name where it has no key."""
    from sigma_framework.evaluation.generations import place_of, read_manifest  # torch comes with the package

    manifest = read_manifest(folder)
    problems: list[Problem] = []
    images: dict[str, ResultImage] = {}
    for number, entry in enumerate(manifest.images):
        places = {}
        for part, given in (("image", entry.image), ("scene", entry.scene)):
            where = f"images[{number}].{part}"
            try:
                places[part] = place_of(folder, given)
            except ValueError as error:
                problems.append(Problem(where, str(error)))
                continue
            if not places[part].is_file():
                problems.append(Problem(where, f'file not found: "{given}"'))
        key = f"{entry.source}/{entry.key}" if entry.key else Path(entry.image).stem
        if key in images:
            problems.append(Problem(f"images[{number}]", f'found "{key}" a second time, expected each scene once'))
        if len(places) == 2:
            images[key] = ResultImage(**places)
    if problems:
        raise DataError(str(folder / MANIFEST), problems)
    return Results(system=manifest.system or name, images=images)


def _has_scene(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return SCENE_TEXT in getattr(image, "text", {})
    except (OSError, ValueError, SyntaxError):
        return False
