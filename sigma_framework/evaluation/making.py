"""The first step of an evaluation: scenes from data sources, and images of them, into a folder with a manifest.

What a folder holds already is not made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from sigma_framework.conditioning.prompts import PromptKind
from sigma_framework.errors import DataError
from sigma_framework.evaluation.generations import MANIFEST, Generation, Manifest, read_manifest, write_manifest
from sigma_framework.evaluation.memory import PeakMemory
from sigma_framework.evaluation.scenes import ControlDraw, SceneGroup, chosen_scenes, scene_of_example
from sigma_framework.generation import ImageMaker
from sigma_framework.progress import Progress
from sigma_framework.protocols import ControlEncoder, WholeDepth
from sigma_framework.run_folder import set_aside
from sigma_framework.scene import Scene
from sigma_framework.specs import ControlSpec, ImageSizes
from sigma_framework.types import Example, FloatMap

SCENES, TARGETS = "scenes", "targets"
"""Folders beside the images."""

MadeBy = Literal["model", "target", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """Which images are made, built from a recipe."""

    maker: Callable[[], ImageMaker]
    """Loads backbone, sampler and controls; called when the first image is made."""
    controls: Mapping[str, ControlEncoder]
    """Encoders of the controls that are drawn, by registered type."""
    control_specs: Mapping[str, ControlSpec]
    """By registered type."""
    size_multiple: int
    """Of the backbone."""
    made_for: ImageSizes | None = None
    """Sizes of the backbone's weights, where it tells them and makes the images."""
    groups: Sequence[SceneGroup]
    """Where scenes come from, the group that the means speak of first."""
    subjects: int | None
    """Only scenes with so many subjects; None takes all."""
    draw: ControlDraw
    """How places are said."""
    seed: int
    """Image k uses seed + k."""
    batch_size: int = 1
    """Scenes made at once, as far as they have one size and number of subjects."""
    shuffle_identities: bool = False
    """Identity images go to subjects in a random order; with ``target`` none of several stays in its place."""
    prompt: PromptKind = "background"
    """What the prompt tells."""
    whole_depth: bool = False
    """Give the depth of the whole picture in the place of the subjects'."""
    made_by: MadeBy = "model"
    """``target`` takes the ground truth for the image, ``nobody`` leaves the images to another system."""
    system: str = ""
    """Name of what makes the images."""
    made_with: str = ""
    """Fingerprint of the recipe as far as it decides the images."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Kept in the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One scene to make."""

    group: str
    number: int
    example: Example
    given: Scene
    """What the model is told."""
    measured: Scene
    """What the image is measured by."""

    @property
    def name(self) -> str:
        return f"{self.number:04d}.png"

    @property
    def shape(self) -> tuple[str, int, tuple[int, ...]]:
        return self.group, len(self.example.subjects), self.example.target.shape


def make_generations(work: Making, folder: Path, progress: Progress) -> Manifest:
    """Makes what is missing, after each batch its part of the manifest.

    Args:
        work: what to make.
        folder: for images, ``manifest.json``, ``scenes/`` and ``targets/``.
        progress: counts scenes.

    Raises:
        DataError: a source has too few scenes with that many subjects, or no whole depth that is asked for.
    """
    indices = {group.name: chosen_scenes(group, work.subjects) for group in work.groups}
    total = sum(len(chosen) for chosen in indices.values())
    kept = _kept(work, indices, folder, progress)
    if 0 < len(kept) < total:
        progress.note(f"{len(kept)} of {total} images are there from an earlier run")
    for name in (SCENES, TARGETS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if unsuited := _unsuited(work, indices):
        progress.note(f"warning: {unsuited}")
    maker = work.maker() if work.made_by == "model" and len(kept) < total else None
    memory = PeakMemory(maker.backbone.device) if maker else None
    done = dict(kept)
    progress.begin("scenes", total, len(done))
    for batch in _batches(work, indices, set(kept)):
        for task, made in zip(batch, _make(work, maker, memory, batch, folder), strict=True):
            done[task.name] = made
        write_manifest(_manifest(work, done, memory), folder)
        progress.advance(len(batch))
    progress.finish()
    return read_manifest(folder)


def _unsuited(work: Making, indices: Mapping[str, Sequence[int]]) -> str:
    """What to say of scenes whose size the weights are not made for; empty where all suit them."""
    sizes = work.made_for
    if sizes is None:
        return ""
    found = [size for group in work.groups for size in np.asarray(group.source.sizes)[list(indices[group.name])]]
    beyond = [size_hw for size_hw in found if not sizes.suit(size_hw)]
    if not beyond:
        return ""
    height, width = beyond[0]
    return (
        f"these weights are made for {sizes.smallest} to {sizes.largest} pixels, and {len(beyond)} of {len(found)} "
        f"scenes are not, e.g. {width} x {height}; their scores say little of the weights"
    )


def _kept(
    work: Making, indices: Mapping[str, Sequence[int]], folder: Path, progress: Progress
) -> dict[str, Generation]:
    """Images of an earlier call that are still wanted, by name; all are set aside when they were made otherwise."""
    if not (folder / MANIFEST).exists():
        return {}
    earlier = read_manifest(folder)
    if earlier.made_with != work.made_with:
        progress.note(f"{folder} holds images made otherwise; they are kept in {set_aside(folder)}")
        return {}
    there = work.made_by == "nobody"
    wanted = tuple(_in_their_places(work, indices, earlier.images))
    if 0 < len(wanted) < len(earlier.images):  # a manifest of nothing cannot be read
        write_manifest(replace(earlier, images=wanted), folder)
    return {one.image: one for one in wanted if there or (folder / one.image).exists()}


def _in_their_places(
    work: Making, indices: Mapping[str, Sequence[int]], images: Sequence[Generation]
) -> Iterator[Generation]:
    """Those whose number still means the same scene, which changes with how many scenes are made."""
    earlier = {one.image: one for one in images}
    scenes = ((group, index) for group in work.groups for index in indices[group.name])
    for number, (group, index) in enumerate(scenes):
        one = earlier.get(f"{number:04d}.png")
        if one is not None and one.source == group.name and one.key == group.source[index].key:
            yield one


def _manifest(work: Making, done: Mapping[str, Generation], memory: PeakMemory | None) -> Manifest:
    return Manifest(
        version=1,
        images=tuple(done[name] for name in sorted(done)),
        system=work.system,
        memory_of=memory.what if memory else "",
        made_with=work.made_with,
        heading=_heading(work),
        facts=work.facts,
    )


def _batches(work: Making, indices: Mapping[str, Sequence[int]], kept: set[str]) -> Iterator[list[_Task]]:
    """Missing scenes in order, cut where the batch is full or a scene of another shape comes."""
    batch: list[_Task] = []
    number = -1
    for group in work.groups:
        for index in indices[group.name]:
            number += 1
            if f"{number:04d}.png" in kept:
                continue
            task = _task(work, group, index, number)
            if batch and (len(batch) == work.batch_size or batch[0].shape != task.shape):
                yield batch
                batch = []
            batch.append(task)
    if batch:
        yield batch


def _task(work: Making, group: SceneGroup, index: int, number: int) -> _Task:
    example = group.source[index]
    count = len(example.subjects)
    structure = _whole_depth(group, index) if work.whole_depth else None

    def scene(order: Sequence[int]) -> Scene:
        # A generator of its own: the layout of a scene must not change with the order of its identities.
        rng = np.random.default_rng((work.seed, number))
        controls = work.draw.draw(count, rng)
        return scene_of_example(example, controls, work.controls, rng, order, work.prompt, structure)

    given = measured = scene(range(count))
    if work.shuffle_identities:
        rng = np.random.default_rng((work.seed, number, 1))
        # Chance is what a model told at random gives; the worst row has nothing right by luck.
        order = [int(k) for k in rng.permutation(count)] if work.made_by == "model" else _wrong_order(count, rng)
        mixed = scene(order)
        # A model is told the wrong identities and measured by the right ones; the truth stays as it is.
        given, measured = (mixed, measured) if work.made_by == "model" else (given, mixed)
    return _Task(group=group.name, number=number, example=example, given=given, measured=measured)


def _wrong_order(count: int, rng: np.random.Generator) -> list[int]:
    """A random order that leaves nothing in its place, where there are two or more: a cycle through all."""
    cycle = rng.permutation(count)
    order = np.empty(count, int)
    order[cycle] = np.roll(cycle, 1)
    return [int(k) for k in order]


def _whole_depth(group: SceneGroup, index: int) -> FloatMap:
    """Raises ``DataError`` when the source does not know it."""
    if not isinstance(group.source, WholeDepth):
        raise DataError(f"evaluate.structure: the source {group.name} knows no depth of whole pictures; write subjects")
    return group.source.whole_depth(index)


def _make(
    work: Making, maker: ImageMaker | None, memory: PeakMemory | None, batch: Sequence[_Task], folder: Path
) -> list[Generation]:
    """Writes scenes and targets, then the images of a batch."""
    for task in batch:
        task.measured.save(folder / SCENES / f"{task.number:04d}.yaml")
        _save(Image.fromarray(task.example.target), folder / TARGETS / task.name)
    if maker is None or memory is None:
        if work.made_by == "target":
            for task in batch:
                _save(Image.fromarray(task.example.target), folder / task.name)
        return [_entry(task, None, None, None) for task in batch]
    memory.reset()
    resolved = [task.given.resolve(work.control_specs, work.size_multiple) for task in batch]
    results = maker.make_each(resolved, [work.seed + task.number for task in batch])
    peak = memory.mebibytes()
    for task, result in zip(batch, results, strict=True):
        _save(result.images[0], folder / task.name)
    return [_entry(task, result.seeds[0], result.seconds, peak) for task, result in zip(batch, results, strict=True)]


def _entry(task: _Task, seed: int | None, seconds: float | None, peak: float | None) -> Generation:
    return Generation(
        image=task.name,
        scene=f"{SCENES}/{task.number:04d}.yaml",
        target=f"{TARGETS}/{task.name}",
        key=task.example.key,
        source=task.group,
        seed=seed,
        seconds=None if seconds is None else round(seconds, 4),
        peak_mib=None if peak is None else round(peak),
    )


def _save(image: Image.Image, path: Path) -> None:
    """All of the picture or nothing: what exists counts as made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    image.save(temporary, format="PNG")
    temporary.replace(path)


def _heading(work: Making) -> str:
    drawn = f"control {', '.join(work.draw.controls)}{', drawn per subject' if work.draw.per_subject else ''}"
    shuffled = ", identities shuffled" if work.shuffle_identities else ""
    full = f"{', full prompts' if work.prompt == 'full' else ''}{', whole depth' if work.whole_depth else ''}"
    groups = ", ".join(f"{group.scenes or 'all'} scenes of {group.name}" for group in work.groups)
    return f"{groups}, {work.subjects or 'any number of'} subjects, {drawn}{shuffled}{full}, seed {work.seed}."
