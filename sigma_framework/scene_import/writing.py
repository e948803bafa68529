"""From layouts to scene documents in a folder: all of them, or none and everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from sigma_framework.errors import DataError, Problem, SceneError, listed, nearest_name
from sigma_framework.scene import Scene, Subject
from sigma_framework.scene.files import InputFault
from sigma_framework.scene.pictures import RGB_FORMATS, has_alpha, open_picture, upright
from sigma_framework.scene.rasters import read_mask
from sigma_framework.scene_import.formats import FORMATS
from sigma_framework.scene_import.records import Box, Findings, Layout, PlacedSubject, at

MULTIPLE = 16
"""Sides are rounded to multiples of this: what FLUX takes."""

Places = Literal["given", "row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was written."""

    scenes: int
    """Documents."""
    notes: tuple[str, ...]
    """What was left out, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    size: tuple[int, int] | None
    default_size: tuple[int, int]
    places: Places


def import_scenes(
    name: str,
    path: Path,
    target: Path,
    *,
    images: Path | None = None,
    size: tuple[int, int] | None = None,
    places: Places = "given",
    limit: int | None = None,
    on_scene: Callable[[], None] = lambda: None,
) -> ImportReport:
    """Writes ``target/<key>.yaml`` and the pictures that they name in ``target/inputs/``.

    Args:
        name: one of ``FORMATS``.
        path: the format's file, or folder.
        target: a folder that does not exist yet; it appears when all is written.
        images: where the input's picture paths start; None looks beside the file and in the folders above it.
        size: width and height, in place of the input's.
        places: ``row`` stands subjects without a box side by side; ``given`` makes them a problem.
        limit: at most so many scenes.
        on_scene: called after each scene.

    Raises:
        DataError: with every problem of the input; then nothing is written.
    """
    if name not in FORMATS:
        raise DataError(f'unknown format "{name}"; {nearest_name(name, FORMATS) or f"known: {listed(FORMATS)}"}')
    if target.exists():
        raise DataError(f"{target}: exists already; choose another folder")
    found = Findings()
    layouts = list(FORMATS[name].read(path, found))[:limit]
    wishes = _Wishes(size=size, default_size=FORMATS[name].size, places=places)
    root = images or _root(path, FORMATS[name].below, layouts)
    placeless = [one.where for layout in layouts for one in layout.subjects if one.box is None]
    if placeless and places == "given":
        others = f", nor for {len(placeless) - 1} more subjects" if len(placeless) > 1 else ""
        what = f"{name} has no box for it{others}"
        found.problems.append(Problem(placeless[0], what, "--places row stands subjects side by side"))
    unfinished = target.with_name(f".{target.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        for layout in layouts:
            _write(layout, root, wishes, unfinished, found)
            on_scene()
        if not layouts and not found.problems:
            found.problems.append(Problem("", "no scene is in it"))
        if found.problems:
            raise DataError(str(path), found.problems)
        _write_manifest(name, layouts, unfinished)
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return ImportReport(scenes=len(layouts), notes=tuple(found.notes))


def _write_manifest(name: str, layouts: list[Layout], folder: Path) -> None:
    """Which image each scene waits for, as an evaluation lists them: any system may make and score them."""
    images = []
    for layout in layouts:
        file = _file_name(layout.key)
        images.append({"image": f"{file}.png", "scene": f"{file}.yaml", "key": layout.key, "source": name})
    text = json.dumps({"version": 1, "heading": f"{len(images)} scenes of {name}.", "images": images}, indent=1)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def _root(path: Path, below: str, layouts: list[Layout]) -> Path:
    """The nearest folder, from the input's upwards, in which the first picture is; else the input's own."""
    start = (path if path.is_dir() else path.parent).absolute()
    first = next((subject.image for layout in layouts for subject in layout.subjects), None)
    folders = [folder / below for folder in (start, *list(start.parents)[:4])]
    return next((folder for folder in folders if first and (folder / first).is_file()), folders[0])


def _write(layout: Layout, root: Path, wishes: _Wishes, folder: Path, found: Findings) -> None:
    width, height = wishes.size or layout.size or wishes.default_size
    size = tuple(max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in (width, height))
    before = len(found.problems)
    if not layout.subjects:
        found.problems.append(Problem(layout.where, "no subject with a picture and a place", "leave the scene out"))
    subjects = []
    for index, subject in enumerate(layout.subjects):
        picture = _picture(subject, root, found)
        box = subject.box or _row(index, len(layout.subjects))
        if picture is not None:
            xyxy = [round(edge * size[k % 2], 2) for k, edge in enumerate(box)]
            control = {"type": "box2d", "xyxy": xyxy}
            subjects.append(
                Subject(name=_name(subject, index), image=picture, caption=subject.caption, control=control)
            )
    if len(found.problems) > before:
        return
    try:
        scene = Scene(
            subjects=tuple(_unique(subjects)), prompt=layout.prompt, prompt_kind="full", size=(size[0], size[1])
        )
        scene.save(folder / f"{_file_name(layout.key)}.yaml")
    except SceneError as error:
        found.problems.extend(Problem(at(layout.where, p.where), p.what, p.remedy) for p in error.problems)


def _row(index: int, count: int) -> Box:
    """Equal columns over the middle half of the height, as MS-Bench stands its subjects."""
    return index / count, 0.25, (index + 1) / count, 0.75


def _picture(subject: PlacedSubject, root: Path, found: Findings) -> Any:
    """A path, or a cut-out where the format says what of its picture is the subject; None and a problem."""
    path = root / subject.image
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise InputFault(f'"{subject.image}" leaves the folder of the pictures')
        if not path.is_file():
            raise InputFault(f'picture not found: "{subject.image}"', "--images says where the input's paths start")
        image = open_picture(path, RGB_FORMATS, [])
        mask = None if subject.mask is None else (root / subject.mask)
        if mask is not None and not mask.exists():
            found.notes.append(f"{subject.where}: no mask of {subject.image}; its background stays")
            mask = None
        if mask is None and subject.crop is None and not subject.outline:
            return path
        return _cut_out(image, mask, subject)
    except InputFault as fault:
        found.problems.append(Problem(subject.where, fault.what, fault.remedy))
        return None


def _cut_out(image: Image.Image, mask: Path | None, subject: PlacedSubject) -> Image.Image:
    """The subject alone, transparent around it, cropped to its part of the picture."""
    upright_image = upright(image)
    rgba = upright_image.convert("RGBA")
    if mask is not None:
        inside = read_mask(None, mask, [])
        if inside.shape != (rgba.height, rgba.width):
            raise InputFault(
                f"mask of {inside.shape[1]}x{inside.shape[0]} pixels, its picture is {rgba.width}x{rgba.height}"
            )
        rgba.putalpha(Image.fromarray(np.where(inside, np.asarray(rgba)[:, :, 3], np.uint8(0))))
    if subject.outline:
        alpha = Image.new("L", rgba.size, 0)
        for polygon in subject.outline:
            ImageDraw.Draw(alpha).polygon(list(polygon), fill=255)
        rgba.putalpha(alpha)
    if subject.crop is not None:
        edges = [edge * rgba.size[k % 2] for k, edge in enumerate(subject.crop)]
        left, top = int(edges[0]), int(edges[1])
        rgba = rgba.crop((left, top, max(left + 1, round(edges[2])), max(top + 1, round(edges[3]))))
    return rgba if has_alpha(upright_image) or mask is not None or subject.outline else rgba.convert("RGB")


def _name(subject: PlacedSubject, index: int) -> str:
    text = " ".join((subject.label or subject.caption).split())[:60]
    return text or f"subject{index + 1}"


def _unique(subjects: list[Subject]) -> list[Subject]:
    """Subjects whose names differ: two dogs become ``dog 1`` and ``dog 2``."""
    names = [subject.name for subject in subjects]
    numbered = [
        f"{name} {names[:k].count(name) + 1}" if names.count(name) > 1 else name for k, name in enumerate(names)
    ]
    return [
        Subject(name=name, image=one.image, caption=one.caption, control=one.control)
        for name, one in zip(numbered, subjects, strict=True)
    ]


def _file_name(key: str) -> str:
    return re.sub(r"[^\w.-]+", "_", key)[:120]
