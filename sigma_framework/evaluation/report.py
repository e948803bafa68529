"""What an evaluation leaves behind: tables for programs and for people, curves, a sheet of pictures, a page."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sigma_framework.evaluation.curves import draw_curves, write_curves
from sigma_framework.evaluation.page import TITLES, made_with, report_page
from sigma_framework.evaluation.paper import paper_tables
from sigma_framework.evaluation.scoring import Measured
from sigma_framework.evaluation.summary import Summary, mean, standard_error, summarise, told, write_summary
from sigma_framework.evaluation.tables import TextTable, as_markdown, other_measures, paper_layout, write_csv
from sigma_framework.picture_grid import grid_picture

GRID_ROWS = 12
"""Scenes on the sheet of pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What reports say besides the numbers."""

    paper_table: int | None = None
    """Table of the paper whose rows stand beside ours."""
    beside: tuple[Summary, ...] = ()
    """Earlier evaluations whose rows and curves stand beside ours."""
    note: str = ""
    """What a reader must know before the numbers."""


def write_reports(measured: Measured, folder: Path, reporting: Reporting) -> Mapping[str, float]:
    """All files, ``report.html`` last; returns the means as ``run_evaluation`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(measured)
    summaries = (summary, *reporting.beside)
    tables = _tables(summaries, reporting.paper_table)
    _write_results(folder / "results.csv", measured)
    write_summary(summary, folder)
    write_csv(folder / "table.csv", tables[0])
    write_curves(folder / "curves.csv", summaries)
    curves = draw_curves(summaries)
    if curves:
        (folder / "curves.svg").write_text(curves, encoding="utf-8")
    (folder / "results.md").write_text(_markdown(measured, summary, tables, reporting.note), encoding="utf-8")
    rows = [scene.pictures for scene in measured.scored[:GRID_ROWS]]
    Image.fromarray(grid_picture(rows, TITLES)).save(folder / "grid.png")
    cautions = [reporting.note] if reporting.note else []
    (folder / "report.html").write_text(report_page(measured, summary, tables, curves, cautions), encoding="utf-8")
    return _means(measured)


def _tables(summaries: Sequence[Summary], number: int | None) -> list[TextTable]:
    """The paper's layout, then everything else that was measured."""
    others = other_measures(summaries)
    table = paper_layout(summaries, None if number is None else paper_tables()[number], number)
    return [table] if others is None else [table, others]


def _means(measured: Measured) -> Mapping[str, float]:
    """Of the first set by the measure's name, of the others with the set's name behind it."""
    first, *others = measured.groups
    found = {m.name: mean(measured.values(m, measured.of_group(first))) for m in measured.measures}
    for group in others:
        found |= {f"{m.name} ({group})": mean(measured.values(m, measured.of_group(group))) for m in measured.measures}
    return found


def _write_results(path: Path, measured: Measured) -> None:
    """One line per image."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        names = [measure.name for measure in measured.measures]
        rows.writerow(["image", "source", "key", "subjects", "control", "seed", "seconds", "peak_mib", *names])
        for number, scene in enumerate(measured.scored):
            how = [" ".join(dict.fromkeys(scene.controls)), "" if scene.seed is None else scene.seed]
            cost = [f"{scene.seconds:.3f}" if math.isfinite(scene.seconds) else ""]
            cost += [f"{scene.memory:.0f}" if math.isfinite(scene.memory) else ""]
            values = [f"{measure.values[number]:.6g}" for measure in measured.measures]
            rows.writerow([scene.image, scene.group, scene.key, scene.subjects, *how, *cost, *values])


def _markdown(measured: Measured, summary: Summary, tables: Sequence[TextTable], note: str) -> str:
    """The paper's layout, means per set, cost per number of subjects, what the numbers are, what metrics add."""
    groups = measured.groups
    lines = [measured.heading, "", *([f"**{note}**", ""] if note else [])]
    lines += [as_markdown(table) for table in tables]
    lines += [f"| measure | {' | '.join(groups)} |", f"|---|{'---|' * len(groups)}"]
    for measure in measured.measures:
        cells = [_mean_and_error(measured.values(measure, measured.of_group(group))) for group in groups]
        lines.append(f"| {measure.name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| subjects | scenes | seconds per image | peak memory ({measured.memory_of}), MiB |",
        "|---|---|---|---|",
    ]
    for curve in summary.curves:
        for point in curve.points:
            cost = [_number(point.means.get("seconds"), "{:.3g}"), _number(point.means.get("peak_mib"), "{:.0f}")]
            subjects = f"{point.subjects} ({curve.system})" if len(summary.curves) > 1 else str(point.subjects)
            lines.append(f"| {subjects} | {point.scenes} | {' | '.join(cost)} |")
    lines += ["", *(f"`{one.name}`: {made_with(one.facts)}\n" for one in summary.measures if one.facts)]
    return "\n".join([*lines, *(f"{text}\n" for text in measured.notes)])


def _mean_and_error(values: Sequence[float]) -> str:
    """``mean ± standard error``; a dash where a measure does not apply."""
    if not values:
        return "-"
    return told(mean(values), standard_error(values))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
