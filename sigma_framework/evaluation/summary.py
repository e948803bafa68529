"""Means of an evaluation: rows of the paper's tables, and curves over the number of subjects."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sigma_framework.dataclass_schema import build
from sigma_framework.errors import DataError
from sigma_framework.evaluation.scoring import Measure, Measured

SUMMARY = "summary.json"
SECTIONS: Mapping[str, Callable[[int], bool]] = {"single": lambda count: count == 1, "multi": lambda count: count > 1}
"""The paper's two halves of a table, by number of subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Means over the scenes of one set with one subject, or with several."""

    system: str
    """What made the images; with the set's name where there are several."""
    section: str
    """``single`` or ``multi``."""
    control: str
    """How places were said."""
    scenes: int
    """How many."""
    means: Mapping[str, float]
    """By measure; one that does not apply is left out."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Standard error of each mean; left out where one scene says nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Means over the scenes with one number of subjects."""

    subjects: int
    """N."""
    scenes: int
    """How many."""
    means: Mapping[str, float]
    """By measure, and ``seconds`` (mean) and ``peak_mib`` (largest) where they are known."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points in order of N."""

    system: str
    """As in ``Row``."""
    points: tuple[Point, ...]
    """At least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureFacts:
    """What a number means."""

    name: str
    """With its variant in brackets."""
    better: str
    """``higher`` or ``lower``."""
    about: str = ""
    """What it says, one line."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """``summary.json``: what other evaluations can set beside theirs."""

    heading: str
    """One line: what was evaluated."""
    measures: tuple[MeasureFacts, ...]
    """Columns."""
    rows: tuple[Row, ...]
    """Of tables."""
    curves: tuple[Curve, ...]
    """One per set."""
    memory_of: str = ""
    """Whose memory ``peak_mib`` is."""


def summarise(measured: Measured) -> Summary:
    """Rows and curves of everything that was measured."""
    several = len(measured.groups) > 1
    rows, curves = [], []
    for group in measured.groups:
        system = f"{measured.system} ({group})" if several else measured.system
        for section, fits in SECTIONS.items():
            scenes = [k for k in measured.of_group(group) if fits(measured.scored[k].subjects)]
            rows += [_row(measured, system, section, scenes)] if scenes else []
        curves.append(Curve(system=system, points=tuple(_points(measured, group))))
    return Summary(
        heading=measured.heading,
        measures=tuple(_facts(one) for one in measured.measures),
        rows=tuple(rows),
        curves=tuple(curves),
        memory_of=measured.memory_of,
    )


def write_summary(summary: Summary, folder: Path) -> None:
    """Writes ``summary.json``; infinite means (PSNR of equal pictures) are no JSON and are left out."""
    text = json.dumps(_finite(asdict(summary)), indent=1, ensure_ascii=False, default=str, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def read_summary(folder: Path) -> Summary:
    """The summary of an earlier evaluation.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / SUMMARY
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"evaluate.beside: {path} cannot be read ({error}); name the run folder of an evaluation"
        ) from error
    checked = build(Summary, data if isinstance(data, dict) else {}, "")
    if checked.problems:
        raise DataError(str(path), checked.problems)
    found: Summary = checked.value
    return found


def _facts(measure: Measure) -> MeasureFacts:
    return MeasureFacts(name=measure.name, better=measure.better, about=measure.about, facts=measure.facts)


def _finite(value: Any) -> Any:
    """Plain data without numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items() if not (isinstance(v, float) and not math.isfinite(v))}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def _row(measured: Measured, system: str, section: str, scenes: Sequence[int]) -> Row:
    controls = sorted({" + ".join(dict.fromkeys(measured.scored[k].controls)) for k in scenes})
    means, errors = _means(measured, scenes)
    return Row(
        system=system, section=section, control=", ".join(controls), scenes=len(scenes), means=means, errors=errors
    )


def _points(measured: Measured, group: str) -> list[Point]:
    of_group = measured.of_group(group)
    points = []
    for count in sorted({measured.scored[k].subjects for k in of_group}):
        scenes = [k for k in of_group if measured.scored[k].subjects == count]
        means, errors = _means(measured, scenes)
        seconds = [measured.scored[k].seconds for k in scenes if math.isfinite(measured.scored[k].seconds)]
        peaks = [measured.scored[k].memory for k in scenes if math.isfinite(measured.scored[k].memory)]
        means |= {"seconds": mean(seconds)} if seconds else {}
        means |= {"peak_mib": max(peaks)} if peaks else {}
        points.append(Point(subjects=count, scenes=len(scenes), means=means, errors=errors))
    return points


def _means(measured: Measured, scenes: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard errors of the measures that apply."""
    means, errors = {}, {}
    for measure in measured.measures:
        values = measured.values(measure, scenes)
        if values:
            means[measure.name] = mean(values)
        if (error := standard_error(values)) is not None:
            errors[measure.name] = error
    return means, errors


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None of fewer than two values, and where one is infinite (PSNR of equal pictures)."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def told(value: float, error: float | None = None) -> str:
    """A number for people, with its standard error where there is one: ``74.54 ± 0.31``, ``7630 ± 1530``."""
    digits = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
    if error is None:
        return digits
    return f"{digits} ± " + (f"{error:.0f}" if 100 <= error < 1e6 else f"{error:.2g}")


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
