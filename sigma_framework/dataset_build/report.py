"""``report.html`` of a build: what each stage kept and rejected and why, subjects per image, samples of each stage."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sigma_framework.conditioning.layout_picture import draw_layout
from sigma_framework.dataset_build.records import Record
from sigma_framework.dataset_build.unit_work import UnitWork
from sigma_framework.set_pictures import as_image_tag, depth_picture, draw_boxes
from sigma_framework.types import Box3D, Camera

_SAMPLES = 4
"""Shown per stage."""
_SIDE = 160
"""Of a sample's pictures, pixels."""
_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:24px;max-width:1200px}td,th{padding:3px 10px;text-align:left;vertical-align:"
    "top}.bar{background:#4a7ab5;height:14px;display:inline-block}img{margin:2px}pre{white-space:pre-wrap;max-width:"
    "320px;font-size:11px;margin:0}.row{display:flex;gap:10px;flex-wrap:wrap;margin:6px 0;border-top:1px solid #ddd}"
)


@dataclass(slots=True, kw_only=True)
class StageCount:
    """What one stage did."""

    name: str
    """The recipe's name."""
    read: int = 0
    """Records that went in."""
    kept: int = 0
    """Records that came out."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Records by reason."""
    counts: Counter[str] = field(default_factory=Counter)
    """What the stage counted itself, e.g. subjects removed by reason."""
    per_second: float = 0.0
    """Records per second in this call; 0 when all was done before."""

    def add(self, facts: Mapping[str, Any]) -> None:
        """Takes in what there is to tell of one unit."""
        self.read += facts["read"]
        self.kept += facts["kept"]
        self.rejected.update(facts["rejected"])
        self.counts.update(facts["counts"])

    def line(self) -> str:
        """For a log."""
        reasons = [f"{number} {reason}" for reason, number in sorted(self.rejected.items())]
        own = [f"{number} {name}" for name, number in sorted(self.counts.items())]
        rate = f", {self.per_second:.1f} records/s" if self.per_second else ""
        why = f" (rejected: {'; '.join(reasons)})" if reasons else ""
        counted = f"; {', '.join(own)}" if own else ""
        return f"{self.name}: {self.kept} of {self.read} kept{why}{counted}{rate}"


def write_report(units: UnitWork, counts: Sequence[StageCount], path: Path) -> None:
    """One self-contained page."""
    subjects: Counter[int] = Counter()
    for unit in range(units.units):
        for record in units.records(len(units.stages), unit)[0]:
            subjects[len(record.get("captions", ()))] += 1
    samples = "".join(_stage_samples(units, place) for place in range(len(units.names)))
    path.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Build</title><style>{_STYLE}</style>"
        f"<h1>Build</h1><p>{counts[0].read} records read, {counts[-1].kept} kept, seed {units.seed}.</p>"
        f"<h2>Stages</h2>{_stage_table(counts)}<h2>Subjects per image</h2>{_histogram(subjects)}"
        f"<h2>Samples</h2>{samples}</html>",
        encoding="utf-8",
    )


def _stage_table(counts: Sequence[StageCount]) -> str:
    rows = []
    for count in counts:
        why = "<br>".join(f"{number} {html.escape(reason)}" for reason, number in count.rejected.most_common())
        own = "<br>".join(f"{number} {html.escape(name)}" for name, number in count.counts.most_common())
        rate = f"{count.per_second:.1f}" if count.per_second else ""
        cells = (html.escape(count.name), str(count.read), str(count.kept), why, own, rate)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    titles = ("stage", "read", "kept", "records rejected", "counted", "records/s")
    return f"<table><tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>{''.join(rows)}</table>"


def _histogram(subjects: Mapping[int, int]) -> str:
    """How many images have how many subjects (Figure 8)."""
    most = max(subjects.values(), default=1)
    rows = "".join(
        f"<tr><td>{number}</td><td><span class='bar' style='width:{round(400 * times / most)}px'></span> {times}</td>"
        "</tr>"
        for number, times in sorted(subjects.items())
    )
    return f"<table><tr><th>subjects</th><th>images</th></tr>{rows}</table>"


def _stage_samples(units: UnitWork, place: int) -> str:
    rng = np.random.default_rng((units.seed, 10**6, place))
    shown: list[str] = []
    for unit in rng.permutation(units.units).tolist():
        if len(shown) == _SAMPLES:
            break
        for record in units.records(place, unit)[0][:1]:
            shown.append(f"<div class='row'>{_pictures(record)}<pre>{html.escape(_texts(record))}</pre></div>")
    return f"<h3>{html.escape(units.names[place])}</h3>{''.join(shown) or '<p>none left</p>'}"


def _pictures(record: Record) -> str:
    target, masks = record.get("target"), record.get("masks")
    if target is None:
        return ""
    pictures = [target]
    if masks is not None and len(masks):
        pictures.append(draw_layout(masks, [""] * len(masks), target, labels=False))
    if record.get("depth") is not None:
        pictures.append(depth_picture(record["depth"], target.shape[:2]))
    solid = [
        None if box is None else Box3D(**{k: tuple(v) for k, v in box.items()}) for box in record.get("boxes_3d") or ()
    ]
    if any(solid):
        pictures.append(draw_boxes(target, solid, record["boxes_xyxy"], Camera(**record["camera"])))
    blocks = "".join(as_image_tag(block, _SIDE // 2) for block in record.get("identities") or ())
    return "".join(as_image_tag(picture, _SIDE) for picture in pictures) + blocks


def _texts(record: Record) -> str:
    plain = {
        key: value
        for key, value in record.items()
        if not isinstance(value, np.ndarray) and key not in ("identities", "per_subject", "boxes_xyxy", "boxes_3d")
    }
    return json.dumps(plain, indent=1, ensure_ascii=False, default=lambda value: f"<{type(value).__name__}>")[:1500]
