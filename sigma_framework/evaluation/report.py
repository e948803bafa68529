"""What an evaluation leaves behind: a table for programs, one for people, a sheet of pictures, a page."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sigma_framework.picture_grid import grid_picture
from sigma_framework.types import Example, Result, RgbImage

GRID_ROWS = 12
"""Scenes on the sheet of pictures."""
_TITLES = ("identities", "layout", "result", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One evaluated scene."""

    group: str
    """Name of its source."""
    example: Example
    """Where the scene came from."""
    result: Result
    """As it was made; its ``seconds`` are its share of the batch."""
    controls: tuple[str, ...]
    """Control type of each subject."""
    memory: float
    """Peak while its batch was made, MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that the reports say."""

    scored: Sequence[Scored]
    """In the order of the images."""
    columns: Mapping[str, Sequence[float]]
    """Per measure, one value per scene."""
    notes: Sequence[str]
    """Markdown that metrics add."""
    memory_of: str
    """Whose memory was measured."""
    seed: int
    """Of the first image."""
    heading: str
    """One line: what was evaluated."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in order."""
        return tuple(dict.fromkeys(scene.group for scene in self.scored))

    def values(self, measure: str, group: str) -> list[float]:
        """The finite values of one group."""
        pairs = zip(self.columns[measure], self.scored, strict=True)
        return [value for value, scene in pairs if scene.group == group and math.isfinite(value)]


def write_reports(measured: Measured, folder: Path) -> Mapping[str, float]:
    """All files, ``report.html`` last; returns the means as ``run_evaluation`` does."""
    _write_csv(folder / "results.csv", measured)
    first, *others = measured.groups
    means = {name: _mean(measured.values(name, first)) for name in measured.columns}
    means |= {f"{name} ({group})": _mean(measured.values(name, group)) for group in others for name in measured.columns}
    (folder / "results.md").write_text(_markdown(measured), encoding="utf-8")
    rows = [_pictures(scene) for scene in measured.scored[:GRID_ROWS]]
    Image.fromarray(grid_picture(rows, _TITLES)).save(folder / "grid.png")
    (folder / "report.html").write_text(_page(measured, means), encoding="utf-8")
    return means


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _write_csv(path: Path, measured: Measured) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["image", "source", "key", "subjects", "control", "seed", "seconds", "peak_mib", *measured.columns]
        )
        for number, scene in enumerate(measured.scored):
            who = [f"{number:04d}.png", scene.group, scene.example.key, len(scene.example.subjects)]
            how = [" ".join(dict.fromkeys(scene.controls)), scene.result.seeds[0]]
            cost = [f"{scene.result.seconds:.3f}", f"{scene.memory:.0f}"]
            rows.writerow([*who, *how, *cost, *(f"{values[number]:.6g}" for values in measured.columns.values())])


def _markdown(measured: Measured) -> str:
    """Means with their standard errors per group, then cost per number of subjects, then what metrics add."""
    groups = measured.groups
    lines = [measured.heading, "", f"| measure | {' | '.join(groups)} |", f"|---|{'---|' * len(groups)}"]
    for name in measured.columns:
        cells = [_mean_and_error(measured.values(name, group)) for group in groups]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| subjects | scenes | seconds per image | peak memory ({measured.memory_of}), MiB |",
        "|---|---|---|---|",
    ]
    for count in sorted({len(scene.example.subjects) for scene in measured.scored}):
        of_count = [scene for scene in measured.scored if len(scene.example.subjects) == count]
        seconds = _mean([scene.result.seconds for scene in of_count])
        lines.append(f"| {count} | {len(of_count)} | {seconds:.3g} | {max(s.memory for s in of_count):.0f} |")
    return "\n".join([*lines, "", *(f"{note}\n" for note in measured.notes)])


def _mean_and_error(values: Sequence[float]) -> str:
    """``mean +- standard error``; a dash where a measure does not apply."""
    if not values:
        return "-"
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{_mean(values):.4g} ± {error:.2g}"


def _pictures(scene: Scored) -> list[RgbImage]:
    result = scene.result
    return [result.controls.identity, result.controls.layout, np.asarray(result.images[0]), scene.example.target]


def _page(measured: Measured, means: Mapping[str, float]) -> str:
    """One self-contained page: the means, then per scene identities, layout, result, target and numbers."""
    head = "".join(f"<li>{html.escape(name)}: {value:.4g}</li>" for name, value in means.items())
    rows = []
    for number, scene in enumerate(measured.scored):
        cells = "".join(
            f'<td><img height="128" src="data:image/png;base64,{_png(picture)}"></td>' for picture in _pictures(scene)
        )
        numbers = "<br>".join(f"{html.escape(name)} {values[number]:.4g}" for name, values in measured.columns.items())
        rows.append(f"<tr><td>{html.escape(scene.example.key)}</td>{cells}<td>{numbers}</td></tr>")
    titles = "".join(f"<th>{title}</th>" for title in ("scene", *_TITLES, "measures"))
    return (
        "<!doctype html><meta charset='utf-8'><title>evaluation</title><style>body{font:14px sans-serif}"
        "td,th{padding:4px;text-align:left}</style>"
        f"<h1>Evaluation</h1><p>{html.escape(measured.heading)}</p><ul>{head}</ul>"
        f"<table><tr>{titles}</tr>{''.join(rows)}</table>"
    )


def _png(picture: RgbImage) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
