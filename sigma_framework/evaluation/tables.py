"""Tables in the paper's layout, with the paper's numbers beside ours; as Markdown, CSV or HTML."""

from __future__ import annotations

import csv
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigma_framework.evaluation.paper import COLUMNS, LOWER, PaperTable, base_name
from sigma_framework.evaluation.summary import Row, Summary, told

_NAMES = {"single": "one subject", "multi": "several subjects"}
_CONTROL = "Control"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table as texts."""

    title: str
    """What it is."""
    header: tuple[str, ...]
    """Column titles; an arrow says which way is better."""
    rows: tuple[tuple[str, ...], ...]
    """Cells; a dash where a measure does not apply."""
    own: tuple[bool, ...]
    """Which rows are not the paper's."""
    notes: tuple[str, ...] = ()
    """Below it."""


def paper_layout(summaries: Sequence[Summary], paper: PaperTable | None, number: int | None) -> TextTable:
    """The paper's columns: its own rows, ours after them, one half per number of subjects."""
    measures = _paper_measures(summaries)
    with_control = paper is None or any(row.control for row in paper.rows)
    before = 3 if with_control else len(COLUMNS)  # the control stands before the depth
    names = list(COLUMNS)
    titles = [f"{COLUMNS[name]} {'↓' if name in LOWER else '↑'}" for name in names]
    control = [_CONTROL] if with_control else []
    rows: list[tuple[str, ...]] = []
    own: list[bool] = []
    for section, title in _NAMES.items():
        printed = [row for row in paper.rows if row.section == section] if paper else []
        found = [(row, measures[k]) for k, one in enumerate(summaries) for row in one.rows if row.section == section]
        for theirs in printed:
            cells = [_printed(name, theirs.values.get(name)) for name in names]
            cells[before:before] = [theirs.control] if with_control else []
            rows.append((title, f"{theirs.method} (paper)", *cells))
            own.append(False)
        for ours, columns in found:
            cells = [_cell(ours, columns.get(name)) for name in names]
            cells[before:before] = [ours.control] if with_control else []
            rows.append((title, ours.system, *cells))
            own.append(True)
    header = ("Subjects", "Method", *titles[:before], *control, *titles[before:])
    about = f"Table {number} of the paper ({paper.title}) and this evaluation" if paper else "The paper's measures"
    return TextTable(title=about, header=header, rows=tuple(rows), own=tuple(own), notes=_variants(measures))


def other_measures(summaries: Sequence[Summary]) -> TextTable | None:
    """Measures that the paper does not have, in the same layout; None when there is none."""
    taken = [set(columns.values()) for columns in _paper_measures(summaries)]
    better = {m.name: m.better for k, one in enumerate(summaries) for m in one.measures if m.name not in taken[k]}
    if not better:
        return None
    rows = [
        (_NAMES[section], row.system, row.control, str(row.scenes), *(_cell(row, name) for name in better))
        for section in _NAMES
        for one in summaries
        for row in one.rows
        if row.section == section
    ]
    titles = [f"{name} {'↓' if way == 'lower' else '↑'}" for name, way in better.items()]
    header = ("Subjects", "Method", _CONTROL, "Scenes", *titles)
    return TextTable(title="Other measures", header=header, rows=tuple(rows), own=(True,) * len(rows))


def as_markdown(table: TextTable) -> str:
    """With its title and notes."""
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.header)} |", f"|{'---|' * len(table.header)}"]
    for row, own in zip(table.rows, table.own, strict=True):
        cells = [_plain(cell) for cell in row]
        if own:
            cells[1] = f"**{cells[1]}**"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{note}\n" for note in table.notes)])


def as_html(table: TextTable) -> str:
    """Our rows stand out."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    body = "".join(
        f"<tr{' class=own' if own else ''}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
        for row, own in zip(table.rows, table.own, strict=True)
    )
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in table.notes)
    return f"<h2>{html.escape(table.title)}</h2><div class=wide><table><tr>{head}</tr>{body}</table></div>{notes}"


def write_csv(path: Path, table: TextTable) -> None:
    """One table as a file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(table.header)
        rows.writerows(table.rows)


def _paper_measures(summaries: Sequence[Summary]) -> list[Mapping[str, str]]:
    """Per summary, our measure for each of the paper's columns: the plain name first, else the first variant."""
    found: list[Mapping[str, str]] = []
    for one in summaries:
        columns: dict[str, str] = {}
        for measure in sorted(one.measures, key=lambda m: "[" in m.name):
            if base_name(measure.name) in COLUMNS:
                columns.setdefault(base_name(measure.name), measure.name)
        found.append(columns)
    return found


def _variants(measures: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Numbers of ours that were made otherwise than the column's name says."""
    named = dict.fromkeys((name, own) for columns in measures for name, own in columns.items() if own != name)
    return tuple(f"{COLUMNS[name]} of this evaluation is {own}, which is not the paper's." for name, own in named)


def _cell(row: Row, measure: str | None) -> str:
    """``mean ± standard error``; a dash where a measure does not apply."""
    if measure is None or measure not in row.means:
        return "-"
    return told(row.means[measure], row.errors.get(measure))


def _printed(name: str, value: float | None) -> str:
    """A number of the paper; its depth errors have one or two digits behind the point, all others two."""
    if value is None:
        return "-"
    return f"{value:g}" if name in LOWER else f"{value:.2f}"


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")
