"""Several variants of one recipe, one table: what ablations are made of."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path


def run_sweep(variants: Mapping[str, Callable[[], Mapping[str, float]]], folder: Path) -> list[str]:
    """Runs every variant and writes ``results.csv`` and ``results.md``, one row per variant.

    Args:
        variants: per variant, what runs it and gives its means.
        folder: where the table goes; each variant writes into its own folder below.

    Returns:
        The rows of the table as lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Mapping[str, float]] = {}
    for name, work in variants.items():
        rows[name] = work()
        write_table(rows, folder)  # after each, so that an interrupted sweep keeps what it has
    return [f"{name}: {', '.join(f'{key} {value:.4g}' for key, value in row.items())}" for name, row in rows.items()]


def write_table(rows: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """``results.csv`` and ``results.md`` of the variants so far."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", *columns])
        writer.writerows(
            [name, *(f"{row[key]:.6g}" if key in row else "" for key in columns)] for name, row in rows.items()
        )
    head = f"| variant | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n"
    body = [
        f"| {name} | {' | '.join(f'{row[key]:.4g}' if key in row else '-' for key in columns)} |"
        for name, row in rows.items()
    ]
    (folder / "results.md").write_text(head + "\n".join(body) + "\n", encoding="utf-8")
