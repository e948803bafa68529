"""The road of an evaluation: scenes in batches, images, measures, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sigma_framework.conditioning.identity_image import stack
from sigma_framework.conditioning.prompts import PromptKind
from sigma_framework.errors import DataError
from sigma_framework.evaluation.memory import PeakMemory
from sigma_framework.evaluation.report import Measured, Scored, write_reports
from sigma_framework.evaluation.scenes import ControlDraw, SceneGroup, chosen_scenes, scene_of_example
from sigma_framework.generation import ImageMaker
from sigma_framework.progress import Progress
from sigma_framework.protocols import Metric, WholeDepth
from sigma_framework.specs import ControlSpec
from sigma_framework.types import Example, FloatMap, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is evaluated, built from a recipe."""

    maker: ImageMaker
    """Backbone, sampler and controls."""
    control_specs: Mapping[str, ControlSpec]
    """By registered type."""
    size_multiple: int
    """Of the backbone."""
    groups: Sequence[SceneGroup]
    """Where scenes come from, the group that the means speak of first."""
    subjects: int | None
    """Only scenes with so many subjects; None takes all."""
    draw: ControlDraw
    """How places are said."""
    metrics: Mapping[str, Metric]
    """By the recipe's names."""
    seed: int
    """Image k uses seed + k."""
    batch_size: int = 1
    """Scenes made at once, as far as they have one size and number of subjects."""
    shuffle_identities: bool = False
    """Give each scene's identity images to its subjects in a random order, and measure against the true one."""
    prompt: PromptKind = "background"
    """What the prompt tells."""
    whole_depth: bool = False
    """Give the depth of the whole picture in the place of the subjects'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One scene to make."""

    group: str
    number: int
    example: Example
    controls: tuple[str, ...]
    order: tuple[int, ...]
    rng: np.random.Generator
    structure: FloatMap | None


def run_evaluation(work: Evaluation, folder: Path, progress: Progress) -> Mapping[str, float]:
    """Generates, measures, and writes ``results.csv``, ``results.md``, ``grid.png``, ``report.html`` and the images.

    Returns:
        The mean of each measure over the scenes of the first group where it applies; those of a further group under
        ``<measure> (<group>)``.

    Raises:
        DataError: a source has too few scenes with that many subjects.
    """
    indices = {group.name: chosen_scenes(group, work.subjects) for group in work.groups}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scored: list[Scored] = []
    memory = PeakMemory(work.maker.backbone.device)
    progress.begin("scenes", sum(len(chosen) for chosen in indices.values()))
    for batch in _batches(work, indices):
        memory.reset()
        results = _make(work, batch)
        peak = memory.mebibytes()
        for task, result in zip(batch, results, strict=True):
            seen = _as_asked(result, task.order)
            for metric in work.metrics.values():
                metric.update(seen, seen.scene, task.example.target)
            result.images[0].save(folder / "images" / f"{task.number:04d}.png")
            scored.append(
                Scored(group=task.group, example=task.example, result=result, controls=task.controls, memory=peak)
            )
        progress.advance(len(batch))
    progress.finish()
    columns = {name: list(values) for metric in work.metrics.values() for name, values in metric.compute().items()}
    notes = [metric.markdown() for metric in work.metrics.values() if hasattr(metric, "markdown")]
    measured = Measured(
        scored=scored, columns=columns, notes=notes, memory_of=memory.what, seed=work.seed, heading=_heading(work)
    )
    return write_reports(measured, folder)


def _batches(work: Evaluation, indices: Mapping[str, Sequence[int]]) -> Iterator[list[_Task]]:
    """Scenes in order, cut where the batch is full or a scene of another shape comes."""
    batch: list[_Task] = []
    number = 0
    for group in work.groups:
        for index in indices[group.name]:
            task = _task(work, group, index, number)
            number += 1
            if batch and (len(batch) == work.batch_size or _shape(batch[0]) != _shape(task)):
                yield batch
                batch = []
            batch.append(task)
    if batch:
        yield batch


def _task(work: Evaluation, group: SceneGroup, index: int, number: int) -> _Task:
    example = group.source[index]
    count = len(example.subjects)
    rng = np.random.default_rng((work.seed, number))
    controls = tuple(work.draw.draw(count, rng))
    # Its own generator: the layout of a scene must not change with the order of its identities.
    order = (
        np.random.default_rng((work.seed, number, 1)).permutation(count) if work.shuffle_identities else range(count)
    )
    return _Task(
        group=group.name,
        number=number,
        example=example,
        controls=controls,
        order=tuple(int(k) for k in order),
        rng=rng,
        structure=_whole_depth(group, index) if work.whole_depth else None,
    )


def _whole_depth(group: SceneGroup, index: int) -> FloatMap:
    """Raises ``DataError`` when the source does not know it."""
    if not isinstance(group.source, WholeDepth):
        raise DataError(f"evaluate.structure: the source {group.name} knows no depth of whole pictures; write subjects")
    return group.source.whole_depth(index)


def _shape(task: _Task) -> tuple[str, int, tuple[int, ...]]:
    return task.group, len(task.example.subjects), task.example.target.shape


def _make(work: Evaluation, batch: Sequence[_Task]) -> list[Result]:
    scenes = [
        scene_of_example(
            task.example, task.controls, work.maker.controls, task.rng, task.order, work.prompt, task.structure
        )
        for task in batch
    ]
    resolved = [scene.resolve(work.control_specs, work.size_multiple) for scene in scenes]
    return work.maker.make_each(resolved, [work.seed + task.number for task in batch])


def _as_asked(result: Result, order: Sequence[int]) -> Result:
    """The result with each identity image beside the region that it truly belongs to."""
    if list(order) == sorted(order):
        return result
    given = np.split(result.controls.identity, len(order))
    own = [given[order.index(k)] for k in range(len(order))]
    return replace(result, controls=replace(result.controls, identity=stack(own)))


def _heading(work: Evaluation) -> str:
    drawn = f"control {', '.join(work.draw.controls)}{', drawn per subject' if work.draw.per_subject else ''}"
    shuffled = ", identities shuffled" if work.shuffle_identities else ""
    more = f"{shuffled}{', full prompts' if work.prompt == 'full' else ''}{', whole depth' if work.whole_depth else ''}"
    groups = ", ".join(f"{group.scenes} scenes of {group.name}" for group in work.groups)
    return f"{groups}, {work.subjects or 'any number of'} subjects, {drawn}{more}, seed {work.seed}."
