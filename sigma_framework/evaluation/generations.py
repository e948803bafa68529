"""Images between the two steps of an evaluation: a folder with a manifest, made here or by any other system.

``docs/evaluation.md`` tells the format to those who fill such a folder themselves.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from sigma_framework.dataclass_schema import Range, build
from sigma_framework.errors import DataError, Problem

MANIFEST = "manifest.json"
VERSION = 1

Positive = Annotated[float, Range(low=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """``images[k]`` of a manifest: one image and what was asked for. Paths start in the manifest's folder."""

    image: str
    """The picture."""
    scene: str
    """Scene document: what the image is measured by."""
    target: str | None = None
    """Ground-truth picture of the scene's size, for measures that need one."""
    key: str = ""
    """Name of the example in its data set."""
    source: str = "main"
    """Name of the set; numbers of different sets are told apart."""
    seed: int | None = None
    """What it was made from."""
    seconds: Positive | None = None
    """Wall time that it took."""
    peak_mib: Positive | None = None
    """Largest memory meanwhile, MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``manifest.json``."""

    version: int
    """Of the format."""
    images: tuple[Generation, ...]
    """In the order of the tables."""
    system: str = ""
    """What made the images; the name of its row in tables."""
    memory_of: str = ""
    """Whose memory ``peak_mib`` is: ``accelerator`` or ``process``."""
    made_with: str = ""
    """Fingerprint of what made them; images made otherwise are not taken for these."""
    heading: str = ""
    """One line that says what the scenes are and how they were given."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping: steps, versions, device."""


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes ``manifest.json``, the old text or the new one, never a part; what is not known is left out."""
    plain = asdict(manifest)
    plain["images"] = [{key: value for key, value in one.items() if _known(value)} for one in plain["images"]]
    text = json.dumps({key: value for key, value in plain.items() if _known(value)}, indent=1, ensure_ascii=False)
    temporary = folder / f".{MANIFEST}.{os.getpid()}.writing"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, its own text checked; whether the files are there is asked later.

    Raises:
        DataError: with every problem of the text.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: not there, expected the list of images and scenes (docs/evaluation.md tells its form; "
            "evaluate.made_by=nobody writes one to be filled)"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected JSON in UTF-8") from error
    problems = _problems_of(data)
    if problems:
        raise DataError(str(path), problems)
    entries = tuple(build(Generation, entry, "").value for entry in data["images"])
    return Manifest(**{**data, "images": entries})


def _problems_of(data: Any) -> list[Problem]:
    """Everything that is wrong with a manifest's text."""
    if not isinstance(data, dict):
        return [Problem("", f"found {type(data).__name__}, expected a map", 'e.g. {"version": 1, "images": [...]}')]
    listed = data.get("images")
    problems = list(build(Manifest, {**data, "images": []}, "").problems)
    if "images" not in data or not isinstance(listed, list) or not listed:
        problems.append(Problem("images", "expected a list with at least one entry"))
        return problems
    if data.get("version") != VERSION:
        problems.append(Problem("version", f"found {data.get('version')!r}, expected {VERSION}"))
    for number, entry in enumerate(listed):
        where = f"images[{number}]"
        if not isinstance(entry, dict):
            problems.append(Problem(where, f"found {type(entry).__name__}, expected a map"))
            continue
        problems += build(Generation, entry, where).problems
    names = [entry.get("image") for entry in listed if isinstance(entry, dict)]
    problems += [
        Problem(f"images[{number}].image", f'found "{name}" a second time, expected each image once')
        for number, name in enumerate(names)
        if isinstance(name, str) and name in names[:number]
    ]
    return problems


def place_of(folder: Path, name: str) -> Path:
    """The file that an entry names.

    Raises:
        ValueError: it leaves the folder.
    """
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if Path(name).is_absolute() or not name.strip() or not inside:
        raise ValueError(f'found "{name}", expected a file in the manifest\'s folder')
    return path


def measured_number(values: Sequence[float | None]) -> list[float]:
    """Unknown numbers as NaN."""
    return [math.nan if value is None else float(value) for value in values]


def _known(value: Any) -> bool:
    return value not in (None, "", {}) and not (isinstance(value, float) and math.isnan(value))
