"""Curves over the number of subjects as one drawing (Figures 5, 8, 16): measures, run time, memory, scenes."""

from __future__ import annotations

import csv
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sigma_framework.evaluation.summary import Curve, Point, Summary

_WIDTH, _HEIGHT = 280, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 26, 30
_COLOURS = ("#1f5fa8", "#c8442f", "#2f8f4e", "#8a4fa3", "#b8860b", "#4a4a4a")
_ACROSS = 4
_SCENES = "number of scenes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    name: str
    from_zero: bool = False

    def value(self, point: Point) -> float | None:
        found = float(point.scenes) if self.name == _SCENES else point.means.get(self.name)
        return found if found is not None and math.isfinite(found) else None

    def error(self, point: Point) -> float:
        return point.errors.get(self.name, 0.0)


def draw_curves(summaries: Sequence[Summary]) -> str:
    """An SVG picture, self-contained; empty when nothing has two numbers of subjects."""
    curves = [curve for one in summaries for curve in one.curves]
    if not any(len(curve.points) > 1 for curve in curves):
        return ""
    panels = [
        panel for panel in _panels(summaries) if any(panel.value(p) is not None for c in curves for p in c.points)
    ]
    rows = math.ceil(len(panels) / _ACROSS)
    width, height = _WIDTH * min(_ACROSS, len(panels)), _HEIGHT * rows + 22
    parts = [
        f'<g transform="translate({_WIDTH * (k % _ACROSS)},{_HEIGHT * (k // _ACROSS)})">{_draw(panel, curves)}</g>'
        for k, panel in enumerate(panels)
    ]
    legend, left = [], 10
    for k, curve in enumerate(curves):
        legend.append(
            f'<rect x="{left}" y="{height - 14}" width="10" height="10" fill="{_COLOURS[k % len(_COLOURS)]}"/>'
        )
        legend.append(f'<text x="{left + 14}" y="{height - 5}">{html.escape(curve.system)}</text>')
        left += 34 + 7 * len(curve.system)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(width, left)} {height}" '
        f'width="{max(width, left)}" height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}{"".join(legend)}</svg>'
    )


def write_curves(path: Path, summaries: Sequence[Summary]) -> None:
    """The same as a table: one line per system and number of subjects."""
    names = list(dict.fromkeys(measure.name for one in summaries for measure in one.measures))
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["system", "subjects", "scenes", "seconds", "peak_mib", *names])
        for curve in (curve for one in summaries for curve in one.curves):
            for point in curve.points:
                cells = [_text(point.means.get(name)) for name in ("seconds", "peak_mib", *names)]
                rows.writerow([curve.system, point.subjects, point.scenes, *cells])


def _panels(summaries: Sequence[Summary]) -> list[_Panel]:
    better = {measure.name: measure.better for one in summaries for measure in one.measures}
    memory = next((one.memory_of for one in summaries if one.memory_of), "")
    return [
        *(_Panel(title=f"{name} {'↓' if way == 'lower' else '↑'}", name=name) for name, way in better.items()),
        _Panel(title="seconds per image", name="seconds", from_zero=True),
        _Panel(title=f"peak memory, MiB ({memory})", name="peak_mib", from_zero=True),
        _Panel(title="scenes", name=_SCENES, from_zero=True),
    ]


def _draw(panel: _Panel, curves: Sequence[Curve]) -> str:
    """One panel: frame, ticks, a line with error bars per curve."""
    seen = [(p, v) for curve in curves for p in curve.points if (v := panel.value(p)) is not None]
    low = 0.0 if panel.from_zero else min(value - panel.error(point) for point, value in seen)
    high = max(value + panel.error(point) for point, value in seen)
    ticks = _round_levels(low, high)
    low, high = ticks[0], ticks[-1]
    counts = sorted({point.subjects for point, _ in seen})
    first, last = counts[0], max(counts[-1], counts[0] + 1)

    def x(count: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (count - first) / (last - first)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{html.escape(panel.title)}</text>']
    for level in ticks:
        parts.append(f'<path d="M{_LEFT} {y(level):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.6g}</text>')
    for count in counts:
        parts.append(f'<text x="{x(count):.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{count}</text>')
    for k, curve in enumerate(curves):
        colour = _COLOURS[k % len(_COLOURS)]
        points = [(p, v) for p in curve.points if (v := panel.value(p)) is not None]
        line = " ".join(f"{x(point.subjects):.1f},{y(value):.1f}" for point, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for point, value in points:
            at, error = x(point.subjects), panel.error(point)
            parts.append(f'<circle cx="{at:.1f}" cy="{y(value):.1f}" r="2.6" fill="{colour}"/>')
            if error:
                bar = f"M{at:.1f} {y(value - error):.1f}V{y(value + error):.1f}"
                parts.append(f'<path d="{bar}" stroke="{colour}" opacity=".5"/>')
    return "".join(parts)


def _round_levels(low: float, high: float) -> list[float]:
    """About four round numbers that hold everything between the two."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 3))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= span / 3)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [step * k for k in range(first, last + 1)]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
