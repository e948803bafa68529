"""The layout dictionary of FLUX.3's pipeline: rows with boxes in a reference and in the picture to be made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sigma_framework.errors import Problem
from sigma_framework.scene_import.records import Box, Findings, Layout, PlacedSubject, at

_FROM = re.compile(r"ref_image_(\d+)")


@dataclass(frozen=True, kw_only=True)
class _Document:
    prompt: str
    boxes: Any
    images: list[str]
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Row:
    id: str = ""
    desc: str = ""
    src_bbox: Box | None = None
    tgt_bbox: Box | None = None


def read_flux3(data: Any, found: Findings) -> Iterator[Layout]:
    """The pipeline's arguments, or a list of them: ``prompt``, ``boxes``, ``images``, ``width``, ``height``."""
    given = data if isinstance(data, list) else [data]
    for number, (where, item) in enumerate(found.entries(given, "")):
        document = found.record(_Document, item, where if isinstance(data, list) else "")
        if document is None:
            continue
        place = at(where, "boxes") if isinstance(data, list) else "boxes"
        subjects = [_subject(entry, row, document.images, found) for row, entry in found.entries(document.boxes, place)]
        size = (document.width, document.height) if document.width and document.height else None
        kept = tuple(subject for subject in subjects if subject is not None)
        yield Layout(key=f"{number:04d}", where=where, prompt=document.prompt, size=size, subjects=kept)


def _subject(entry: Any, where: str, images: list[str], found: Findings) -> PlacedSubject | None:
    row = found.record(_Row, entry, where)
    if row is None:
        return None
    origin = str(entry.get("from") or "")
    if origin == "target":
        found.notes.append(f'{where}: "{row.desc or row.id}" has no picture (from: target); the prompt must tell it')
        return None
    number = _FROM.fullmatch(origin)
    if number is None or int(number[1]) >= len(images):
        wanted = f"target or ref_image_0 to ref_image_{len(images) - 1}"
        found.problems.append(Problem(at(where, "from"), f'found "{origin}", expected {wanted}'))
        return None
    if row.tgt_bbox is None:
        found.notes.append(f'{where}: "{row.desc or row.id}" is taken out of its picture (no tgt_bbox); left out')
        return None
    box = _xyxy(row.tgt_bbox, at(where, "tgt_bbox"), found)
    crop = None if row.src_bbox is None else _xyxy(row.src_bbox, at(where, "src_bbox"), found)
    if box is None or (row.src_bbox is not None and crop is None):
        return None
    return PlacedSubject(where=where, image=images[int(number[1])], caption=row.desc, label=row.id, box=box, crop=crop)


def _xyxy(box: Box, where: str, found: Findings) -> Box | None:
    """y0, x0, y1, x1 in 0..1 as x0, y0, x1, y1."""
    if max(box) > 1.5:
        found.problems.append(
            Problem(where, f"found {list(box)}, expected fractions 0..1", "divide a 0..1000 grid by 1000")
        )
        return None
    return found.fractions((box[1], box[0], box[3], box[2]), (1.0, 1.0), where)
