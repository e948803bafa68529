"""The road of an evaluation: images into a folder, a folder into numbers, numbers into reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sigma_framework.evaluation.generations import read_manifest
from sigma_framework.evaluation.making import Making, make_generations
from sigma_framework.evaluation.report import Reporting, write_reports
from sigma_framework.evaluation.scoring import Scoring, score_generations
from sigma_framework.progress import Progress

IMAGES = "images"
"""Folder of the generations inside a run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is evaluated, built from a recipe."""

    making: Making | None
    """How images are made; None where they are there already."""
    scoring: Scoring
    """How they are measured."""
    reporting: Reporting = field(default_factory=Reporting)
    """What reports say besides."""
    images: Path | None = None
    """Folder of images that are there already, made by anyone; None makes them."""
    system: str | None = None
    """Name of what made them; None is the manifest's."""


def run_evaluation(work: Evaluation, folder: Path, progress: Progress) -> Mapping[str, float]:
    """Makes the images that are missing, measures, and writes tables, curves, ``grid.png`` and ``report.html``.

    Returns:
        The mean of each measure over the scenes of the first set where it applies; those of a further set under
        ``<measure> (<set>)``. Where nobody makes the images: how many are to be made.

    Raises:
        DataError: a source has too few scenes, or the folder's manifest and files are not right.
    """
    place = work.images or folder / IMAGES
    if work.making is None:
        manifest = read_manifest(place)
    else:
        manifest = make_generations(work.making, place, progress)
        if work.making.made_by == "nobody":
            return {"images to make": float(len(manifest.images))}
    if work.system is not None:
        manifest = replace(manifest, system=work.system)
    measured = score_generations(work.scoring, manifest, place, progress)
    return write_reports(measured, folder, work.reporting)
