"""The document of a scene: which keys there are, and what they may hold."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np

from sigma_framework import dataclass_schema
from sigma_framework.dataclass_schema import join, shown
from sigma_framework.errors import Problem, SceneError, listed, nearest_name
from sigma_framework.scene import files, plain_data
from sigma_framework.scene.records import Scene, Subject, is_array, is_path
from sigma_framework.types import DEFAULT_FOV_Y_DEGREES, MAX_SUBJECTS, Camera

VERSION = 1
"""The document version that this program reads and writes."""
MAX_SIDE = 8192
"""Largest width or height of a scene, pixels."""
MAX_TEXT = 20_000
"""Longest prompt or caption, characters."""
MAX_NAME = 100
"""Longest subject name, characters."""
PICTURE_KEYS = ("background", "structure")

_CAMERA_KEYS = ("fov_y", "fx", "fy", "cx", "cy")
_SUBJECT = re.compile(r"subjects\[(\d+)\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, kw_only=True)
class _SceneKeys:
    """What a scene document may hold; the values' own checks are below."""

    version: int = VERSION
    size: tuple[int, int] | None = None
    prompt: str = ""
    prompt_kind: Literal["background", "full"] = "background"
    background: Any = None
    camera: Any = None
    structure: Any = None
    structure_range: tuple[float, float] | None = None
    subjects: Any


@dataclass(frozen=True, kw_only=True)
class _SubjectKeys:
    """What a subject may hold."""

    name: str = ""
    image: Any
    caption: str = ""
    control: Any


SCENE_KEYS = tuple(item.name for item in dataclasses.fields(_SceneKeys) if item.name != "version")


@dataclass(slots=True)
class Draft:
    """A document while it is checked: what could be read, and what is wrong with the rest."""

    origin: str
    """Names the document in messages."""
    folder: Path | None
    """Where its relative paths start; None: the caller's current folder."""
    values: dict[str, Any] = field(default_factory=dict)
    """Checked values by key, without the subjects; what is wrong is absent."""
    subjects: list[dict[str, Any]] = field(default_factory=list)
    """Checked values of each subject by key; what is wrong is absent."""
    problems: list[Problem] = field(default_factory=list)
    """Everything wrong so far."""

    def raise_problems(self) -> None:
        """Raises ``SceneError`` when there are problems."""
        if self.problems:
            raise SceneError(self.origin, sorted(self.problems, key=_subject_of))

    def finish(self) -> Scene:
        """The scene; call it when there are no problems."""
        return Scene(**self.values, subjects=self.finish_subjects(), folder=self.folder, origin=self.origin)

    def finish_subjects(self) -> tuple[Subject, ...]:
        """The subjects; call it when there are no problems."""
        return tuple(Subject(**values) for values in self.subjects)

    def add(self, where: str, what: str, remedy: str = "") -> None:
        """One more problem."""
        self.problems.append(Problem(where, what, remedy))


def _subject_of(problem: Problem) -> int:
    """The number of the subject that a problem is about; those of the whole scene come first."""
    found = _SUBJECT.match(problem.where)
    return int(found.group(1)) if found else -1


def open_draft(source: str | os.PathLike[str] | Mapping[str, Any], base: str | os.PathLike[str] | None) -> Draft:
    """Reads and checks a file or a mapping.

    Raises:
        SceneError: there is nothing to check: no file, not plain data, or no mapping.
    """
    if isinstance(source, Mapping):
        return read_draft(source, folder=None if base is None else Path(base).absolute(), origin="scene")
    if not is_path(source):
        raise SceneError("scene", [Problem("", f"found {type(source).__name__}, expected a file, a map or a Scene")])
    path = Path(source)
    try:
        files.check_name(str(source))
        content = files.read_file(path)
    except files.InputFault as fault:
        raise SceneError(str(source), [Problem("", fault.what, fault.remedy)]) from None
    data = plain_data.parse(content, str(source), prefer_json=path.suffix.lower() == ".json")
    return read_draft(
        data, folder=path.parent.absolute() if base is None else Path(base).absolute(), origin=str(source)
    )


def read_draft(data: Mapping[str, Any], *, folder: Path | None, origin: str) -> Draft:
    """Checks a mapping; its pictures may be arrays when it comes from Python."""
    draft = Draft(origin, folder)
    version = data.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        remedy = "upgrade sigma_framework" if isinstance(version, int) and version > VERSION else "write version: 1"
        draft.add("version", f"found {shown(version)}, this program reads version {VERSION}", remedy)
        if isinstance(version, int) and version > VERSION:
            return draft  # its other keys may be right, there
    values = _read_keys(
        _SceneKeys, {**{key: _plain(value) for key, value in data.items()}, "version": VERSION}, "", draft
    )
    subjects = values.pop("subjects", None)
    values.pop("version", None)
    for key, check in _CHECKS.items():
        if values.get(key) is not None and not check(key, values[key], draft):
            del values[key]
    draft.values = values
    if subjects is not None:
        _read_subjects(subjects, draft)
    return draft


def _read_keys(schema: type, data: Mapping[str, Any], where: str, draft: Draft) -> dict[str, Any]:
    """The values that are right, by key; problems for the others."""
    draft.problems.extend(dataclass_schema.build(schema, data, where).problems)
    hints = get_type_hints(schema)
    values: dict[str, Any] = {}
    for key, hint in hints.items():
        attempt: list[Problem] = []
        if key in data:
            value = dataclass_schema.convert(hint, data[key], join(where, key), attempt)
            if not attempt:
                values[key] = value
    return values


def _check_size(where: str, size: tuple[int, int], draft: Draft) -> bool:
    wrong = [side for side in size if not 1 <= side <= MAX_SIDE]
    for side in wrong:
        draft.add(where, f"found {side}, expected width and height between 1 and {MAX_SIDE} pixels")
    return not wrong


def _check_text(where: str, text: str, draft: Draft) -> bool:
    before = len(draft.problems)
    if len(text) > MAX_TEXT:
        draft.add(where, f"has {len(text):,} characters, at most {MAX_TEXT:,} are allowed")
    if _CONTROL.search(text):
        draft.add(where, "holds control characters", "remove them")
    return len(draft.problems) == before


def _check_picture(where: str, value: Any, draft: Draft) -> bool:
    if is_array(value):
        return True
    if not is_path(value):
        draft.add(where, f"found {shown(value)}, expected a file name")
        return False
    try:
        files.check_name(os.fspath(value))
        if isinstance(value, str) and draft.folder is not None and files.is_absolute(value):
            raise files.InputFault(
                f"absolute path {shown(value)}, expected a path relative to the scene file",
                "put the file beside the scene",
            )
    except files.InputFault as fault:
        draft.add(where, fault.what, fault.remedy)
        return False
    return True


def _check_range(where: str, limits: tuple[float, float], draft: Draft) -> bool:
    right = 0 < limits[0] <= limits[1]
    if not right:
        draft.add(where, f"found {shown(limits)}, expected two positive numbers, the smaller first")
    return right


def _check_camera(where: str, camera: Any, draft: Draft) -> bool:
    if isinstance(camera, Camera):
        return True
    if not isinstance(camera, Mapping):
        draft.add(where, f"found {shown(camera)}, expected a map", "write camera: {fov_y: 50}")
        return False
    before = len(draft.problems)
    for key, value in camera.items():
        if key not in _CAMERA_KEYS:
            remedy = nearest_name(str(key), _CAMERA_KEYS) or f"known keys: {listed(_CAMERA_KEYS)}"
            draft.add(join(where, str(key)), "unknown key", remedy)
        else:
            dataclass_schema.convert(float, value, join(where, key), draft.problems)
    if len(draft.problems) == before:
        try:
            camera_of(camera, 64, 64)
        except ValueError as error:
            draft.add(where, str(error))
    return len(draft.problems) == before


_CHECKS: dict[str, Callable[[str, Any, Draft], bool]] = {
    "size": _check_size,
    "prompt": _check_text,
    "background": _check_picture,
    "structure": _check_picture,
    "structure_range": _check_range,
    "camera": _check_camera,
}


def camera_of(camera: Mapping[str, float] | Camera | None, width: int, height: int) -> Camera:
    """The camera of a scene of this size.

    Raises:
        ValueError: neither ``fov_y`` alone nor all of ``fx, fy, cx, cy``, or a number out of range.
    """
    if isinstance(camera, Camera):
        return camera
    numbers = dict(camera or {"fov_y": DEFAULT_FOV_Y_DEGREES})
    if set(numbers) == {"fov_y"}:
        return Camera.from_fov_y(float(numbers["fov_y"]), width, height)
    if set(numbers) == {"fx", "fy", "cx", "cy"}:
        return Camera(**{key: float(value) for key, value in numbers.items()})
    raise ValueError(f"found {listed(numbers)}, expected fov_y alone, or all of fx, fy, cx, cy")


def _read_subjects(given: Any, draft: Draft) -> None:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        draft.add("subjects", f"found {shown(given)}, expected a list", "start each subject with a dash")
        return
    if not 1 <= len(given) <= MAX_SUBJECTS:
        draft.add("subjects", f"found {len(given)}, expected 1 to {MAX_SUBJECTS} subjects")
    for index, item in enumerate(given[: 4 * MAX_SUBJECTS]):
        draft.subjects.append(_read_subject(item, index, draft))
    _check_names(draft)


def _read_subject(item: Any, index: int, draft: Draft) -> dict[str, Any]:
    where = f"subjects[{index}]"
    if isinstance(item, Subject):
        item = {part.name: getattr(item, part.name) for part in dataclasses.fields(Subject)}
    if not isinstance(item, Mapping):
        draft.add(where, f"found {shown(item)}, expected a map with image and control")
        return {}
    values = _read_keys(_SubjectKeys, item, where, draft)
    if "image" in values and not _check_picture(join(where, "image"), values["image"], draft):
        del values["image"]
    _check_text(join(where, "caption"), values.get("caption", ""), draft)
    name = values.get("name", "")
    if len(name) > MAX_NAME or _CONTROL.search(name) or "\n" in name or "\t" in name or (name and not name.strip()):
        draft.add(join(where, "name"), f"found {shown(name)}, expected one line of at most {MAX_NAME} characters")
    control = values.pop("control", None)
    if isinstance(control, Mapping):
        values["control"] = {str(key): _plain(value) for key, value in control.items()}
    elif "control" in item:
        draft.add(join(where, "control"), f"found {shown(control)}, expected a map with type")
    values["name"] = name or f"subject{index + 1}"
    return values


def _plain(value: Any) -> Any:
    """NumPy numbers and short vectors as Python's, so that a control written in Python equals a loaded one."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _check_names(draft: Draft) -> None:
    first: dict[str, int] = {}
    for index, subject in enumerate(draft.subjects):
        name = unicodedata.normalize("NFC", subject.get("name", ""))
        if name and name in first:
            found = f'"{name}" is also the name of subjects[{first[name]}]'
            draft.add(f"subjects[{index}].name", found, "names must be unique")
        first.setdefault(name, index)
