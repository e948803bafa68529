"""Where a scene's files may lie, and reading one whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from sigma_framework.errors import nearest_name
from sigma_framework.types import SCENE_FILE_SUFFIXES, FileContent, SceneFile

MAX_FILE_BYTES = 256 * 2**20
"""Largest picture file, bytes: 50 megapixels of float32 fit."""
INPUTS = "inputs"
"""Folder of the pictures that a written scene names, beside the document or image."""
MAX_PATH_CHARACTERS = 1000
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy")
FILE_SUFFIXES = (*PICTURE_SUFFIXES, *SCENE_FILE_SUFFIXES)
"""Endings by which a control's text counts as a file where no plugin is asked which fields are."""


class InputFault(Exception):
    """One file or picture cannot be used; becomes a problem of the scene."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def locate(source: str | os.PathLike[str], folder: Path | None) -> Path:
    """The file that a scene names.

    Args:
        source: text (from a document, or the caller's), or a path object (the caller's: may be absolute).
        folder: the scene's folder; None when the scene was made in Python, then any path of the caller is taken.

    Raises:
        InputFault: the name is not allowed, leaves the folder, or nothing is there.
    """
    text = os.fspath(source)
    check_name(text)
    own = folder is None or not isinstance(source, str)
    if is_absolute(text) and not own:
        raise InputFault(
            f'absolute path "{text}", expected a path relative to the scene file', "put the file beside the scene"
        )
    base = Path.cwd() if folder is None else folder
    path = base / text
    if not own:
        _require_inside(path, base, text)
    if not path.exists():
        raise InputFault(f'file not found: "{text}"', _similar(path) or _kept_beside(text))
    return path


def check_name(text: str) -> None:
    """Raises ``InputFault`` for what can never be a local file's name."""
    if not text.strip():
        raise InputFault("empty file name")
    if "://" in text or text.lower().startswith(("data:", "pipe:")):
        raise InputFault(f'found "{text[:60]}"', "give a local file; addresses are never fetched")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InputFault("a file name with control characters is not allowed")
    if len(text) > MAX_PATH_CHARACTERS or any(len(part.encode(errors="replace")) > 255 for part in Path(text).parts):
        raise InputFault("file name is too long")


def is_absolute(text: str) -> bool:
    """Absolute on any system, so that a scene means the same everywhere."""
    windows = PureWindowsPath(text)
    return PurePosixPath(text).is_absolute() or windows.is_absolute() or bool(windows.drive or windows.root)


def names_file(value: object) -> bool:
    """Whether a control's value is a file by its type or by how it ends."""
    return isinstance(value, os.PathLike) or (isinstance(value, str) and Path(value).suffix.lower() in FILE_SUFFIXES)


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """A regular file's bytes.

    Raises:
        InputFault: a folder, a device, empty, too large, unreadable, or changed meanwhile.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputFault(f'"{path.name}" is a folder, expected a file')
        if not stat.S_ISREG(status.st_mode):
            raise InputFault(f'"{path.name}" is not a regular file')
        if status.st_size > limit:
            raise InputFault(f'"{path.name}" has {status.st_size:,} bytes, at most {limit:,} are read')
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputFault(f'file not found: "{path.name}"') from None
    except OSError as error:
        raise InputFault(f'"{path.name}" cannot be read: {error.strerror or error}') from None
    if not content:
        raise InputFault(f'"{path.name}" is empty (0 bytes)', "copy the file again")
    if len(content) != status.st_size:
        raise InputFault(f'"{path.name}" changed while it was read', "try again")
    return content


def read_content(path: Path, mark: SceneFile) -> FileContent:
    """A file that is no picture; raises ``InputFault`` as ``read_file`` does, and for an ending that is not taken."""
    _require_suffix(path.name, path.suffix.lower(), mark)
    return FileContent(name=path.name, content=read_file(path, mark.max_bytes))


def checked_content(content: FileContent, mark: SceneFile) -> FileContent:
    """A content that the caller made; raises ``InputFault`` for its ending or size."""
    _require_suffix(content.name, content.suffix, mark)
    if not 0 < len(content.content) <= mark.max_bytes:
        raise InputFault(f'"{content.name}" has {len(content.content):,} bytes, expected 1 to {mark.max_bytes:,}')
    return content


def _require_suffix(name: str, suffix: str, mark: SceneFile) -> None:
    if suffix not in mark.suffixes:
        allowed = ", ".join(mark.suffixes)
        raise InputFault(f'"{name}" ends in "{suffix}", allowed: {allowed}', "export it in one of them")


def _require_inside(path: Path, base: Path, text: str) -> None:
    # resolve() follows links, so a link out of the folder is found too
    if not path.resolve().is_relative_to(base.resolve()):
        raise InputFault(f'"{text}" leaves the folder of the scene', "put the file beside the scene")


def _kept_beside(text: str) -> str:
    if not text.startswith(f"{INPUTS}/"):
        return ""
    return f"what an image or a saved scene names lies in {INPUTS}/ beside it; keep the two together"


def _similar(path: Path) -> str:
    try:
        siblings = [entry.name for _, entry in zip(range(1000), path.parent.iterdir(), strict=False)]
    except OSError:
        return ""
    return nearest_name(path.name, siblings)
