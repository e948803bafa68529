"""What a study found: a table for people, one for programs, the bar figure, one page with all of it."""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from sigma_framework.errors import DataError
from sigma_framework.study.answers import CHOICES, Answer, read_answers
from sigma_framework.study.making import KEY
from sigma_framework.study.statistics import Preference, Share, preferences

_HOW = """\
Shares have Wilson's 95 % interval, each answer one draw. The margin is the share of the first system minus that of the
second; its 95 % interval resamples participants, whose answers hang together, and is wide open with one. The sign test
leaves ties out. Agreement is Krippendorff's alpha (1 perfect, 0 chance)."""
TITLES = {"quality": "Quality", "layout": "Layout", "identity": "Identity"}
_COLOURS = {"first": "#2f6db5", "equal": "#c3cad4", "second": "#d98a3d"}
_BAR, _GAP, _LEFT, _WIDTH = 34, 22, 90, 640
"""Of the figure, pixels."""


def report_study(paths: Sequence[Path], study: Path | None, target: Path) -> str:
    """Writes ``report.md``, ``preferences.csv``, ``bars.svg`` and ``report.html``; gives the table as Markdown.

    Args:
        paths: files of answers.
        study: the folder that ``sigma-study make`` wrote, for the systems' names; None calls them first and second.
        target: folder of the report; made if needed, its files of an earlier report are replaced.

    Raises:
        DataError: with every problem of the answers, or when they are not of this study.
    """
    answers = read_answers(paths)
    names = _names(study, answers)
    found = preferences(answers)
    text, figure = _markdown(found, answers, names), bars(found, names)
    files = {
        "report.md": text,
        "preferences.csv": _table(found, names),
        "bars.svg": figure,
        "report.html": _page(text, figure),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (target / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error
    return text


def _names(study: Path | None, answers: Sequence[Answer]) -> Mapping[str, str]:
    equal = {"equal": "About Equal"}
    if study is None:
        return {"first": "first", "second": "second", **equal}
    path = study / KEY
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        names = {side: str(key[side]) for side in ("first", "second")}
        pairs = set(key["scenes"])
        own = str(key["study"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected the folder that sigma-study make wrote") from None
    if answers[0].study != own or any(answer.pair not in pairs for answer in answers):
        raise DataError(f"{path}: is of study {own}, the answers are of study {answers[0].study}")
    return {**names, **equal}


def _markdown(found: Sequence[Preference], answers: Sequence[Answer], names: Mapping[str, str]) -> str:
    people = len({answer.participant for answer in answers})
    pairs = len({answer.pair for answer in answers})
    lines = [
        f"{len(answers)} answers of {people} participants to {pairs} pairs: {names['first']} against {names['second']}."
    ]
    head = " | ".join(names[choice] for choice in CHOICES)
    lines += ["", f"| question | {head} | margin | sign test | agreement |", "|---|---|---|---|---|---|---|"]
    for one in found:
        shares = " | ".join(_percent(one.shares[choice]) for choice in CHOICES)
        p = "p < 0.001" if one.p_value < 0.001 else f"p = {one.p_value:.3f}"
        margin, agreement = _percent(one.margin, sign=True), _number(one.agreement)
        lines.append(f"| {TITLES[one.question]} | {shares} | {margin} | {p} | {agreement} |")
    lines += ["", f"| mean confidence, 1 to 5 | {head} |", "|---|---|---|---|"]
    for one in found:
        lines.append(
            f"| {TITLES[one.question]} | {' | '.join(_number(one.confidence[choice]) for choice in CHOICES)} |"
        )
    lines += ["", f"| subjects | answers | {' | '.join(f'{TITLES[one.question]}: margin' for one in found)} |"]
    lines.append("|---|---|---|---|---|")
    for count in sorted({answer.subjects for answer in answers}):
        part = [answer for answer in answers if answer.subjects == count]
        cells = " | ".join(_percent(one.margin, sign=True) for one in preferences(part))
        lines.append(f"| {count} | {len(part)} | {cells} |")
    return "\n".join([*lines, "", _HOW]) + "\n"


def _percent(share: Share, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{100 * share.value:{plus}.1f} % ({100 * share.low:{plus}.1f} to {100 * share.high:{plus}.1f})"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _table(found: Sequence[Preference], names: Mapping[str, str]) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream)
    rows.writerow(["question", "choice", "count", "share", "low", "high", "mean_confidence", "p_value", "agreement"])
    for one in found:
        for choice in CHOICES:
            share = one.shares[choice]
            numbers = [share.value, share.low, share.high, one.confidence[choice], one.p_value, one.agreement]
            rows.writerow([one.question, names[choice], one.counts[choice], *(f"{value:.6g}" for value in numbers)])
    return stream.getvalue()


def bars(found: Sequence[Preference], names: Mapping[str, str]) -> str:
    """The bar figure as SVG: one bar per question, from the first system over ties to the second."""
    height = 40 + len(found) * (_BAR + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" '
        'font-family="sans-serif" font-size="14">',
        f'<rect width="{_LEFT + _WIDTH + 20}" height="{height}" fill="#ffffff"/>',
    ]
    for slot, choice in enumerate(CHOICES):
        x = _LEFT + slot * _WIDTH / 3
        parts.append(f'<rect x="{x:.0f}" y="10" width="12" height="12" fill="{_COLOURS[choice]}"/>')
        parts.append(f'<text x="{x + 18:.0f}" y="21">{html.escape(_short(names[choice]))}</text>')
    for row, one in enumerate(found):
        top, x = 40 + row * (_BAR + _GAP), float(_LEFT)
        middle = top + _BAR / 2 + 5
        parts.append(f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end">{TITLES[one.question]}</text>')
        for choice in CHOICES:
            width = _WIDTH * one.shares[choice].value
            parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[choice]}"/>')
            if width > 40:
                ink = "#1d2430" if choice == "equal" else "#ffffff"
                text = f"{100 * one.shares[choice].value:.0f} %"
                place = f'x="{x + width / 2:.1f}" y="{middle:.0f}" text-anchor="middle"'
                parts.append(f'<text {place} fill="{ink}">{text}</text>')
            x += width
        parts += _whisker(one.shares["first"], top)
    return "".join([*parts, "</svg>\n"])


def _whisker(share: Share, top: float) -> list[str]:
    """The interval of the first system's share, below its bar's end."""
    y = top + _BAR + 7
    low, high = _LEFT + _WIDTH * share.low, _LEFT + _WIDTH * share.high
    lines = [(low, y, high, y), (low, y - 4, low, y + 4), (high, y - 4, high, y + 4)]
    return [
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{_COLOURS["first"]}" stroke-width="2"/>'
        for x0, y0, x1, y1 in lines
    ]


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}..."


def _page(text: str, figure: str) -> str:
    """The Markdown's tables and the figure as one page that needs nothing else."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        if not lines[0].startswith("|"):
            blocks.append(f"<p>{html.escape(block)}</p>")
            continue
        cells = [
            [html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines if "---" not in line
        ]
        head, *body = ("".join(f"<{tag}>{cell}</{tag}>" for cell in row) for tag, row in _tagged(cells))
        blocks.append(f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>")
    style = (
        "body{font:15px/1.5 sans-serif;max-width:900px;margin:24px auto;padding:0 16px}"
        "td,th{padding:3px 12px 3px 0;text-align:left}"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Human study</title><style>{style}</style>"
        f"<h1>Human study</h1>{blocks[0]}{figure}{''.join(blocks[1:])}</html>\n"
    )


def _tagged(rows: Sequence[Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    return [("th" if number == 0 else "td", row) for number, row in enumerate(rows)]
