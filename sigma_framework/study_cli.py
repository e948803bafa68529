"""``sigma-study``: makes the page of a human study and reports its answers. Prints, as ``cli`` does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sigma_framework.cli import guarded
from sigma_framework.progress import counted

study_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def study_main() -> None:
    """Entry point of ``sigma-study``."""
    sys.exit(guarded(study_app, "sigma-study", sys.argv[1:]))


@study_app.callback(help="Compare two systems' images by human eyes (A.16).")
def _group() -> None:
    """A group of commands."""


@study_app.command(help="Write a static page that asks which of two images is better.")
def make(
    first: Annotated[Path, typer.Argument(metavar="RESULTS_A", help="Images of one system, with their scenes.")],
    second: Annotated[Path, typer.Argument(metavar="RESULTS_B", help="Images of another, of the same scenes.")],
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where to write; must not exist.")] = Path(
        "study"
    ),
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Decides scenes, order and sides.")] = 0,
    per_count: Annotated[
        int | None, typer.Option("--per-count", metavar="N", min=1, help="Scenes for each number of subjects.")
    ] = None,
    debug: _Debug = False,
) -> None:
    """``sigma-study make``."""
    from sigma_framework.study import make_study

    report = make_study(first, second, output, seed=seed, per_count=per_count)
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    pairs = f"{counted(report.pairs, 'pair')} of {' and '.join(report.systems)}"
    typer.echo(f"{pairs}: open or host {output / 'page' / 'index.html'}")


@study_app.command(
    help="Preferences with intervals, agreement and the bar figure from the answers that the page saved."
)
def report(
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="CSV or JSON files, any number.")],
    study: Annotated[
        Path | None, typer.Option("--study", metavar="FOLDER", help="What make wrote: names the systems.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where to write the report.")] = Path(
        "study_report"
    ),
    debug: _Debug = False,
) -> None:
    """``sigma-study report``."""
    from sigma_framework.study import report_study

    typer.echo(report_study(answers, study, output))
    typer.echo(f"wrote {output / 'report.html'}")
