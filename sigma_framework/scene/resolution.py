"""A scene with its controls checked and its files opened: all that the conditioning needs, as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sigma_framework import dataclass_schema
from sigma_framework.errors import Problem, listed, nearest_name
from sigma_framework.scene import files, pictures, rasters
from sigma_framework.scene.document import Draft, camera_of
from sigma_framework.scene.framing import Framing
from sigma_framework.scene.records import Scene, is_path
from sigma_framework.types import BoolMap, Camera, Canvas, DepthRaster, FileContent, Raster, RgbImage, SceneFile

if TYPE_CHECKING:
    from sigma_framework.specs import ControlSpec

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResolvedSubject:
    """One subject with its files opened."""

    name: str
    """Unique in the scene."""
    caption: str
    """What it is; may be empty."""
    control: str
    """The control's registered name."""
    geometry: Any
    """An instance of that control's ``geometry`` dataclass."""
    identity: RgbImage
    """(H', W', 3) uint8 as read, on white where it was transparent; any size."""
    cutout: BoolMap | None
    """(H', W') bool: the opaque part of ``identity``; None for a picture without transparency."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResolvedScene:
    """A scene that is known to be right, as arrays of its canvas."""

    scene: Scene
    """Where it came from, with the size that it was given where it names none."""
    canvas: Canvas
    """Size and camera."""
    subjects: tuple[ResolvedSubject, ...]
    """Paste order."""
    background: RgbImage | None
    """(H, W, 3) uint8, framed to the canvas; None outside insertion."""
    structure: NDArray[np.uint8] | DepthRaster | None
    """Whole-scene depth of the canvas's size: uint8 is used as it is, a ``DepthRaster`` is mapped."""
    warnings: tuple[str, ...]
    """What may disappoint."""


class _Reader:
    """Opens the files of one draft; notes problems and warnings instead of raising."""

    def __init__(self, draft: Draft) -> None:
        self.folder = draft.folder
        self.problems = draft.problems
        self.warnings: list[str] = []
        self.framing: Framing | None = None
        self.size: tuple[int, int] | None = None

    def path_of(self, source: Any) -> Path | None:
        """The file of a picture; None when it is given by its pixels."""
        return files.locate(source, self.folder) if is_path(source) else None

    def told(self, where: str, read: Callable[[list[str]], _Read]) -> _Read | None:
        """What is read from one file; a fault becomes a problem, and what is warned of gets its place."""
        found: list[str] = []
        try:
            return read(found)
        except files.InputFault as fault:
            self.problems.append(Problem(where, fault.what, fault.remedy))
            return None
        finally:
            self.warnings.extend(f"{where}: {text}" for text in found)

    def rgb(self, source: Any, where: str) -> pictures.Rgb | None:
        """An RGB picture, or None and a problem."""
        return self.told(where, lambda found: pictures.read_rgb(source, self.path_of(source), found))

    def raster(self, mark: Raster, source: Any, reading: str | None, where: str) -> Any:
        """A mask or depth map of the canvas's size, or None and a problem."""

        def read(found: list[str]) -> Any:
            path = self.path_of(source)
            if mark.reading == "mask":
                return self.fit(rasters.read_mask(source, path, found))
            depth = rasters.read_depth(source, path, reading, found)
            return replace(depth, values=self.fit(depth.values))

        return self.told(where, read)

    def content(self, mark: SceneFile, source: Any, where: str) -> FileContent | None:
        """A file that is no picture, or None and a problem."""
        if isinstance(source, FileContent):
            return self.told(where, lambda _: files.checked_content(source, mark))
        return self.told(where, lambda _: files.read_content(files.locate(source, self.folder), mark))

    def structure(self, source: Any, where: str = "structure") -> NDArray[np.uint8] | DepthRaster | None:
        """The scene's own depth map, or None and a problem."""

        def read(found: list[str]) -> NDArray[np.uint8] | DepthRaster:
            structure = rasters.read_structure(source, self.path_of(source), found)
            if isinstance(structure, DepthRaster):
                return replace(structure, values=self.fit(structure.values))
            return self.fit(structure)

        return self.told(where, read)

    def fit(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values when they have the canvas's size; framed like the photograph when they have its size."""
        height, width = values.shape
        if self.size is None or (width, height) == self.size:
            return values
        if self.framing is not None and (width, height) == self.framing.photo:
            framed = self.framing.frame_values(values)
            if framed.dtype == np.bool_ and not framed.any():
                raise files.InputFault("the mask lies outside the part of the photograph that is kept")
            return framed
        found = f"{width}x{height} pixels, the scene is {self.size[0]}x{self.size[1]}"
        raise files.InputFault(found, "resize it with nearest neighbour to the scene's size")


def resolve_draft(
    draft: Draft,
    controls: Mapping[str, ControlSpec],
    size_multiple: int,
    default_size: tuple[int, int],
    scene: Scene | None = None,
) -> ResolvedScene:
    """Checks controls and opens files of a draft; raises ``SceneError`` with its problems and all new ones."""
    reader = _Reader(draft)
    background = _frame(draft, reader, size_multiple, default_size)
    structure = None
    if draft.values.get("structure") is not None:
        structure = reader.structure(draft.values["structure"])
    resolved = [
        _resolve_subject(values, f"subjects[{index}]", controls, reader) for index, values in enumerate(draft.subjects)
    ]
    draft.raise_problems()
    if not draft.values.get("prompt", "").strip():
        reader.warnings.append("prompt: is empty; say what is around the subjects")
    width, height = reader.size or default_size
    scene = scene or draft.finish()
    if scene.size is None and scene.background is None:  # what was made is told whole, whoever reads it later
        scene = replace(scene, size=(width, height))
    return ResolvedScene(
        scene=scene,
        canvas=Canvas(width=width, height=height, camera=_camera(draft, width, height)),
        subjects=tuple(subject for subject in resolved if subject is not None),
        background=background,
        structure=structure,
        warnings=tuple(reader.warnings),
    )


def _camera(draft: Draft, width: int, height: int) -> Camera:
    return camera_of(draft.values.get("camera"), width, height)


def _frame(draft: Draft, reader: _Reader, multiple: int, default_size: tuple[int, int]) -> RgbImage | None:
    """Decides the scene's size (``reader.size``) and gives the framed photograph."""
    size: tuple[int, int] | None = draft.values.get("size")
    size_is_wrong = any(problem.where.startswith("size") for problem in draft.problems)
    if size is not None:
        size_is_wrong = not _is_multiple(size, multiple, reader)
    source = draft.values.get("background")
    photo = None if source is None else reader.rgb(source, "background")
    if size_is_wrong:
        return None
    if photo is None:
        reader.size = size if size is not None or source is not None else default_size
        return None
    photo_size = (photo.pixels.shape[1], photo.pixels.shape[0])
    if size is None and min(photo_size) < multiple:
        what = f"photograph is {photo_size[0]}x{photo_size[1]} pixels, expected at least {multiple} on each side"
        reader.problems.append(Problem("background", what))
        return None
    framing = Framing.own(photo_size, multiple) if size is None else Framing.cover(photo_size, size)
    reader.framing, reader.size = framing, framing.size
    return framing.frame_photo(photo.pixels)


def _is_multiple(size: tuple[int, int], multiple: int, reader: _Reader) -> bool:
    for side in size:
        if side % multiple:
            near = sorted({max(multiple, side // multiple * multiple), (side // multiple + 1) * multiple})
            what = f"{side} is not a multiple of {multiple}"
            reader.problems.append(Problem("size", what, f"use {' or '.join(map(str, near))}"))
    return not any(side % multiple for side in size)


def _resolve_subject(
    values: Mapping[str, Any], where: str, controls: Mapping[str, ControlSpec], reader: _Reader
) -> ResolvedSubject | None:
    """Opens what a subject's draft has of picture and control; None when one of them is missing or wrong."""
    identity = reader.rgb(values["image"], f"{where}.image") if "image" in values else None
    control = values.get("control")
    geometry = None if control is None else _geometry(control, f"{where}.control", controls, reader)
    if identity is None or control is None or geometry is None:
        return None
    return ResolvedSubject(
        name=values["name"],
        caption=values.get("caption", ""),
        control=str(control["type"]),
        geometry=geometry,
        identity=identity.pixels,
        cutout=identity.cutout,
    )


def _geometry(control: Mapping[str, Any], where: str, controls: Mapping[str, ControlSpec], reader: _Reader) -> Any:
    """The control's geometry with arrays in its raster fields, or None and problems."""
    kind = control.get("type")
    if not isinstance(kind, str) or kind not in controls:
        known = f"known controls: {listed(controls)}"
        found = "missing" if kind is None else f"unknown control {dataclass_schema.shown(kind)}"
        remedy = nearest_name(kind, controls) if isinstance(kind, str) else ""
        reader.problems.append(Problem(f"{where}.type", found, remedy or known))
        return None
    schema = controls[kind].geometry
    data = {key: value for key, value in control.items() if key != "type"}
    failed = False
    for name, mark in dataclass_schema.file_fields(schema).items():
        source = data.get(name)
        if source is None:
            continue
        if not _is_given(mark, source):
            wanted = f"a {mark.reading} file" if isinstance(mark, Raster) else f"a file ({', '.join(mark.suffixes)})"
            what = f"found {dataclass_schema.shown(source)}, expected {wanted}"
            reader.problems.append(Problem(f"{where}.{name}", what))
            failed = True
            continue
        if isinstance(mark, SceneFile):
            data[name] = reader.content(mark, source, f"{where}.{name}")
            failed = failed or data[name] is None
            continue
        # a sibling "<field>_kind" says how a depth file is meant; without it the file's number type does
        reading = data.get(f"{name}_kind")
        opened = reader.raster(mark, source, reading if isinstance(reading, str) else None, f"{where}.{name}")
        failed = failed or opened is None
        data[name] = opened
    checked = dataclass_schema.build(schema, data, where)
    # with a file missing, what the geometry says of itself as a whole would only repeat that
    reader.problems.extend(problem for problem in checked.problems if not failed or problem.where != where)
    return None if failed else checked.value


def _is_given(mark: Raster | SceneFile, value: Any) -> bool:
    if isinstance(mark, SceneFile):
        return isinstance(value, (str, os.PathLike, FileContent))
    return isinstance(value, (str, os.PathLike, np.ndarray, DepthRaster)) or hasattr(value, "getpixel")
