"""XVerseBench: prompts with pictures and captions; the format has neither boxes nor a size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sigma_framework.scene_import.records import Findings, Layout, PlacedSubject, at


@dataclass(frozen=True, kw_only=True)
class _Sample:
    prompt: str
    modulation: Any
    index: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Modulation:
    src_inputs: Any


@dataclass(frozen=True, kw_only=True)
class _Source:
    image_path: str
    caption: str = ""


def read_xversebench(data: Any, found: Findings) -> Iterator[Layout]:
    """``XVerseBench_single.json`` or ``XVerseBench_multi.json``; paths start at the repository's root."""
    for number, (where, item) in enumerate(found.entries(data, "")):
        sample = found.record(_Sample, item, where)
        if sample is None:
            continue
        subjects = []
        for place, entry in found.entries(sample.modulation, at(where, "modulation")):
            modulation = found.record(_Modulation, entry, place)
            if modulation is None:
                continue
            for source_place, source in found.entries(modulation.src_inputs, at(place, "src_inputs")):
                one = found.record(_Source, source, source_place)
                if one is not None:
                    subjects.append(
                        PlacedSubject(where=source_place, image=one.image_path, caption=one.caption, box=None)
                    )
        key = f"{number if sample.index is None else sample.index:04d}"
        yield Layout(key=key, where=where, prompt=sample.prompt, size=None, subjects=tuple(subjects))
