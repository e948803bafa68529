"""Scores: scenes from a data source's annotations, images by the recipe's sampler, numbers by its metrics."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigma_framework.errors import DataError
from sigma_framework.generation import ImageMaker
from sigma_framework.progress import Progress
from sigma_framework.protocols import ControlEncoder, DataSource, Metric
from sigma_framework.scene import Scene, Subject
from sigma_framework.specs import ControlSpec
from sigma_framework.types import Canvas, Example, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is evaluated, built from a recipe."""

    maker: ImageMaker
    """Backbone, sampler and controls."""
    control_specs: Mapping[str, ControlSpec]
    """By registered type."""
    size_multiple: int
    """Of the backbone."""
    source: DataSource
    """Where scenes come from."""
    scenes: int
    """How many."""
    subjects: int | None
    """Only scenes with so many subjects; None takes all."""
    controls: tuple[str, ...]
    """Control types that are drawn from, one per scene."""
    metrics: Mapping[str, Metric]
    """By the recipe's names."""
    seed: int
    """Image k uses seed + k."""


def run_evaluation(work: Evaluation, folder: Path, progress: Progress) -> Mapping[str, float]:
    """Generates, measures, and writes ``results.csv``, ``results.md``, ``report.html`` and the images.

    Returns:
        The mean of each measure over the scenes where it applies.

    Raises:
        DataError: the source has no scene with that many subjects.
    """
    indices = chosen_scenes(work)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shown: list[tuple[str, Result, Example]] = []
    progress.begin("scenes", len(indices))
    for number, index in enumerate(indices):
        example = work.source[int(index)]
        result = _generate(work, example, number)
        for metric in work.metrics.values():
            metric.update(result, result.scene, example.target)
        result.images[0].save(folder / "images" / f"{number:04d}.png")
        shown.append((example.key, result, example))
        progress.advance()
    progress.finish()
    columns = {name: list(values) for metric in work.metrics.values() for name, values in metric.compute().items()}
    _write_csv(folder / "results.csv", shown, columns)
    means = {name: _mean(values) for name, values in columns.items()}
    (folder / "results.md").write_text(_markdown(work, means), encoding="utf-8")
    (folder / "report.html").write_text(_report(work, shown, columns, means), encoding="utf-8")
    return means


def chosen_scenes(work: Evaluation) -> Sequence[int]:
    """The first scenes of the source that have the wanted number of subjects."""
    counts = np.asarray(work.source.subject_counts)
    fits = np.arange(len(counts)) if work.subjects is None else np.flatnonzero(counts == work.subjects)
    if len(fits) < work.scenes:
        raise DataError(
            f"evaluate.scenes: found {len(fits)} scenes with {work.subjects or 'any number of'} subjects in the "
            f"source, expected {work.scenes}; ask for fewer or change evaluate.subjects"
        )
    return [int(index) for index in fits[: work.scenes]]


def scene_of_example(
    example: Example, control: str, encoder: ControlEncoder, rng: np.random.Generator, prompt_kind: str = "background"
) -> Scene:
    """What a user would write to get this image: the annotation said by one control type."""
    height, width = example.target.shape[:2]
    canvas = Canvas(width=width, height=height, camera=example.subjects[0].camera)
    subjects = []
    for number, (annotation, identity) in enumerate(zip(example.subjects, example.identities, strict=True)):
        geometry = encoder.derive(annotation, canvas, rng)
        said = {field.name: getattr(geometry, field.name) for field in dataclasses.fields(geometry)}
        subjects.append(
            Subject(
                name=f"subject{number + 1}",
                image=identity,
                caption=annotation.caption,
                control={"type": control, **{key: value for key, value in said.items() if value is not None}},
            )
        )
    return Scene(
        subjects=tuple(subjects),
        prompt=example.prompt_full if prompt_kind == "full" else example.prompt_background,
        prompt_kind="full" if prompt_kind == "full" else "background",
        size=(width, height),
        camera=canvas.camera,
    )


def _generate(work: Evaluation, example: Example, number: int) -> Result:
    rng = np.random.default_rng((work.seed, number))
    control = work.controls[int(rng.integers(len(work.controls)))]
    scene = scene_of_example(example, control, work.maker.controls[control], rng)
    resolved = scene.resolve(work.control_specs, work.size_multiple)
    return work.maker.make(resolved, [work.seed + number], None)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _write_csv(
    path: Path, shown: Sequence[tuple[str, Result, Example]], columns: Mapping[str, Sequence[float]]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "key", "subjects", "seed", "seconds", *columns])
        for number, (key, result, example) in enumerate(shown):
            measured = [f"{values[number]:.6g}" for values in columns.values()]
            rows.writerow(
                [f"{number:04d}.png", key, len(example.subjects), result.seeds[0], f"{result.seconds:.3f}", *measured]
            )


def _markdown(work: Evaluation, means: Mapping[str, float]) -> str:
    head = f"{work.scenes} scenes, {work.subjects or 'any number of'} subjects, control {', '.join(work.controls)}.\n\n"
    rows = "".join(f"| {name} | {value:.4g} |\n" for name, value in means.items())
    return f"{head}| measure | mean |\n|---|---|\n{rows}"


def _report(
    work: Evaluation,
    shown: Sequence[tuple[str, Result, Example]],
    columns: Mapping[str, Sequence[float]],
    means: Mapping[str, float],
) -> str:
    """One self-contained page: the means, then per scene identities, layout, result, target and numbers."""
    head = "".join(f"<li>{html.escape(name)}: {value:.4g}</li>" for name, value in means.items())
    rows = []
    for number, (key, result, example) in enumerate(shown):
        pictures = (result.controls.identity, result.controls.layout, np.asarray(result.images[0]), example.target)
        cells = "".join(
            f'<td><img height="128" src="data:image/png;base64,{_png(picture)}"></td>' for picture in pictures
        )
        numbers = "<br>".join(f"{html.escape(name)} {values[number]:.4g}" for name, values in columns.items())
        rows.append(f"<tr><td>{html.escape(key)}</td>{cells}<td>{numbers}</td></tr>")
    titles = "".join(f"<th>{title}</th>" for title in ("scene", "identities", "layout", "result", "target", "measures"))
    return (
        "<!doctype html><meta charset='utf-8'><title>evaluation</title><style>body{font:14px sans-serif}"
        "td,th{padding:4px;text-align:left}</style>"
        f"<h1>Evaluation</h1><p>{work.scenes} scenes, seed {work.seed}</p><ul>{head}</ul>"
        f"<table><tr>{titles}</tr>{''.join(rows)}</table>"
    )


def _png(picture: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
