"""Lists of captions with instances and boxes: ContextGen's ``segment_info.json`` and LAMICBench++."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sigma_framework.scene_import.records import Box, Findings, Layout, PlacedSubject, Side, at

LAMICBENCH_MASKS = "reference_masks"
"""Folder of the masks, beside ``reference_images``."""


@dataclass(frozen=True, kw_only=True)
class _Record:
    caption: str
    width: Side
    instances: Any


@dataclass(frozen=True, kw_only=True)
class _Instance:
    image: str
    bbox: Box
    label: str = ""
    phrase: str = ""
    mask: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Sample:
    prompt: str
    references: Any
    index: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Reference:
    image_path: str
    phrase: str = ""
    bbox: Box | None = None


def read_segment_info(data: Any, found: Findings) -> Iterator[Layout]:
    """ContextGen's inference record: a square of ``width`` pixels, boxes in its pixels, paths beside the file."""
    for number, (where, item) in enumerate(found.entries(data if isinstance(data, list) else [data], "")):
        record = found.record(_Record, item, where)
        if record is None:
            continue
        subjects = []
        for place, entry in found.entries(record.instances, at(where, "instances")):
            one = found.record(_Instance, entry, place)
            box = one and found.fractions(one.bbox, (record.width, record.width), at(place, "bbox"))
            if one and box:
                caption = one.phrase or one.label
                subjects.append(
                    PlacedSubject(
                        where=place, image=one.image, caption=caption, label=one.label, box=box, mask=one.mask
                    )
                )
        size = (record.width, record.width)
        yield Layout(key=f"{number:04d}", where=where, prompt=record.caption, size=size, subjects=tuple(subjects))


def read_lamicbench(data: Any, found: Findings) -> Iterator[Layout]:
    """LAMICBench++: boxes in 0..1 (``lamicbench_layout.json``) or none (``lamicbench_plus.json``)."""
    for number, (where, item) in enumerate(found.entries(data, "")):
        sample = found.record(_Sample, item, where)
        if sample is None:
            continue
        subjects = []
        for place, entry in found.entries(sample.references, at(where, "references")):
            one = found.record(_Reference, entry, place)
            box = one and one.bbox and found.fractions(one.bbox, (1.0, 1.0), at(place, "bbox"))
            if one is None or (one.bbox and not box):
                continue
            mask = str(PurePosixPath("..", LAMICBENCH_MASKS, one.image_path).with_suffix("")) + "_mask.png"
            subjects.append(
                PlacedSubject(where=place, image=one.image_path, caption=one.phrase, box=box or None, mask=mask)
            )
        key = f"{number if sample.index is None else sample.index:04d}"
        yield Layout(key=key, where=where, prompt=sample.prompt, size=None, subjects=tuple(subjects))
