"""Several variants of one recipe, one table and one figure: what ablations are made of."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from PIL import Image

from sigma_framework.bar_chart import draw_bars

SCORES = "scores.json"
"""In the folder of a variant's evaluation: its recipe and, when it is finished, its means."""

Means = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRun:
    """One variant with one seed."""

    variant: str
    """Its name in the recipe."""
    seed: int
    """Of its training and its evaluation."""
    work: Callable[[], Means]
    """Runs it and gives its means; cheap when it is finished already."""


def run_sweep(
    runs: Sequence[SweepRun], folder: Path, figure: Sequence[str] | None = None, heading: str = ""
) -> list[str]:
    """Runs every variant with every seed and writes ``results.csv``, ``results.md`` and ``figure.png``.

    Args:
        runs: in the order of the table.
        folder: where the table goes; each run writes into its own folder below.
        figure: measures that the figure shows; None shows all.
        heading: a line above the table of ``results.md``.

    Returns:
        The rows of the table as lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores: dict[str, dict[int, Means]] = {}
    for run in runs:
        scores.setdefault(run.variant, {})[run.seed] = run.work()
        write_table(scores, folder, heading)  # after each, so that an interrupted sweep shows what it has
    write_figure(scores, folder / "figure.png", figure)
    return [
        f"{variant}: {', '.join(f'{key} {_cell(_values(rows, key))}' for key in _columns(scores))}"
        for variant, rows in scores.items()
    ]


def kept_scores(folder: Path, recipe: Mapping[str, Any]) -> Means | None:
    """The means of a finished evaluation; None when there is none, or one of another recipe.

    Args:
        folder: of the variant.
        recipe: the resolved recipe that is wanted.
    """
    found = _read_scores(folder)
    if found is None or found.get("recipe") != _comparable(recipe) or not isinstance(found.get("means"), dict):
        return None
    return {name: math.nan if value is None else float(value) for name, value in found["means"].items()}


def belongs_to_another(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds an evaluation, finished or not, of another recipe."""
    found = _read_scores(folder)
    return found is not None and found.get("recipe") != _comparable(recipe)


def _read_scores(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep_scores(folder: Path, recipe: Mapping[str, Any], means: Means | None = None) -> None:
    """Says whose evaluation is in ``folder``, and with ``means`` that it is finished; whole or not at all."""
    plain = None
    if means is not None:
        plain = {name: value if math.isfinite(value) else None for name, value in means.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{SCORES}.{os.getpid()}"
    text = json.dumps({"recipe": _comparable(recipe), "means": plain}, indent=1)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / SCORES)


def _comparable(recipe: Mapping[str, Any]) -> Any:
    """A resolved recipe as JSON knows it, without the folder that it runs in."""
    run = {key: value for key, value in recipe.get("run", {}).items() if key != "dir"}
    return json.loads(json.dumps({**recipe, "run": run}))


def write_table(scores: Mapping[str, Mapping[int, Means]], folder: Path, heading: str = "") -> None:
    """``results.csv``, a row per variant and seed, and ``results.md``, a row per variant with the spread over seeds."""
    columns = _columns(scores)
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", *columns])
        for variant, rows in scores.items():
            for seed, row in rows.items():
                writer.writerow([variant, seed, *(f"{row[key]:.6g}" if key in row else "" for key in columns)])
    lines = [heading, ""] if heading else []
    lines += [f"| variant | seeds | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for variant, rows in scores.items():
        lines.append(f"| {variant} | {len(rows)} | {' | '.join(_cell(_values(rows, key)) for key in columns)} |")
    if any(len(rows) > 1 for rows in scores.values()):
        lines += ["", "Mean ± standard deviation over seeds (n - 1)."]
    (folder / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_figure(scores: Mapping[str, Mapping[int, Means]], path: Path, measures: Sequence[str] | None) -> None:
    """A panel of bars per measure; nothing when no variant has any of them."""
    shown = [name for name in _columns(scores) if measures is None or name in measures]
    panels = {name: {variant: _values(rows, name) for variant, rows in scores.items()} for name in shown}
    if panels:
        Image.fromarray(draw_bars(panels)).save(path)


def _columns(scores: Mapping[str, Mapping[int, Means]]) -> list[str]:
    return list(dict.fromkeys(key for rows in scores.values() for row in rows.values() for key in row))


def _values(rows: Mapping[int, Means], key: str) -> list[float]:
    """The finite values of one measure over the seeds."""
    return [row[key] for row in rows.values() if key in row and math.isfinite(row[key])]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{fmean(values):.4g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")
