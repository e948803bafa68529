"""Writing a scene: its document, and its pictures under names made of their content."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.errors import Problem, SceneError
from sigma_framework.scene import files
from sigma_framework.scene.document import PICTURE_KEYS
from sigma_framework.scene.document_output import document_text, write_document
from sigma_framework.scene.pictures import sniff
from sigma_framework.scene.records import Scene, Subject, is_array
from sigma_framework.types import SCENE_FILE_SUFFIXES, DepthRaster, FileContent

_EXTENSIONS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "NPY": ".npy"}


def save_scene(scene: Scene, path: Path) -> Scene:
    """Writes document and pictures; gives the scene as written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    copied = copy_pictures(scene, path.parent)
    text = document_text(write_document(copied), as_json=path.suffix.lower() == ".json")
    _write(path, text.encode())
    return replace(copied, origin=str(path))


def copy_pictures(scene: Scene, folder: Path) -> Scene:
    """Copies every picture below ``folder``; gives the scene that names the copies."""
    problems: list[Problem] = []

    def stored(source: Any, where: str) -> Any:
        try:
            return _store(source, scene.folder, folder)
        except files.InputFault as fault:
            problems.append(Problem(where, fault.what, fault.remedy))
            return source

    if isinstance(scene.structure, DepthRaster) and scene.structure.kind == "disparity":
        problems.append(Problem("structure", "found relative inverse depth, expected metres or an 8-bit map"))
    changes: dict[str, Any] = {
        key: stored(getattr(scene, key), key) for key in PICTURE_KEYS if getattr(scene, key) is not None
    }
    subjects: list[Subject] = []
    for index, subject in enumerate(scene.subjects):
        where = f"subjects[{index}]"
        control = dict(subject.control)
        for key, value in subject.control.items():
            if is_array(value) or isinstance(value, FileContent) or files.names_file(value):
                control[key] = stored(value, f"{where}.control.{key}")
            if isinstance(value, DepthRaster):
                control[f"{key}_kind"] = "metric_m" if value.kind == "metric" else "disparity"
        subjects.append(replace(subject, image=stored(subject.image, f"{where}.image"), control=control))
    if problems:
        raise SceneError(scene.origin, problems)
    return replace(scene, **changes, subjects=tuple(subjects), folder=folder)


def _store(source: Any, folder: Path | None, target: Path) -> str:
    """Writes one file to ``target/inputs/<sha256>.<ext>``; gives the relative name."""
    content, extension = _content_of(source, folder)
    name = f"{files.INPUTS}/{hashlib.sha256(content).hexdigest()}{extension}"
    if not (target / name).exists():
        (target / files.INPUTS).mkdir(parents=True, exist_ok=True)
        _write(target / name, content)
    return name


def _content_of(source: Any, folder: Path | None) -> tuple[bytes, str]:
    """Bytes of a picture or another file of a scene, and the ending of its copy's name."""
    if isinstance(source, FileContent):
        return source.content, source.suffix
    if is_array(source):
        content = encode_array(source)
    else:
        path = files.locate(source, folder)
        content = files.read_file(path)
        if path.suffix.lower() in SCENE_FILE_SUFFIXES:
            return content, path.suffix.lower()
    extension = _EXTENSIONS.get(sniff(content))
    if extension is None:
        raise files.InputFault("not a picture that a scene can hold", f"allowed: {', '.join(_EXTENSIONS)}")
    return content, extension


def encode_array(source: NDArray[Any] | DepthRaster | Image.Image) -> bytes:
    """Pixels as the bytes of a file that reads back to the same values: PNG where it can, else ``.npy``."""
    stream = io.BytesIO()
    if isinstance(source, DepthRaster):
        source = source.values
    if isinstance(source, Image.Image):
        if source.mode == "F":
            source = np.asarray(source)
        else:
            image = source if source.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else source.convert("RGB")
            image.save(stream, "PNG")
            return stream.getvalue()
    if source.dtype == np.bool_:
        source = source.astype(np.uint8) * 255
    if source.dtype in (np.uint8, np.uint16) and (source.ndim == 2 or source.dtype == np.uint8):
        Image.fromarray(np.ascontiguousarray(source)).save(stream, "PNG")
    else:
        np.save(stream, source, allow_pickle=False)
    return stream.getvalue()


def _write(path: Path, content: bytes) -> None:
    """All of the file or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
