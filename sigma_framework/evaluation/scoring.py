"""The second step of an evaluation: a folder of images with its manifest, whoever made it -> numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigma_framework.errors import DataError, PluginError, Problem, SigmaError
from sigma_framework.evaluation.generations import Generation, Manifest, place_of
from sigma_framework.generation import condition_scene
from sigma_framework.progress import Progress
from sigma_framework.protocols import ControlEncoder, Metric
from sigma_framework.scene import ResolvedScene, Scene
from sigma_framework.specs import ControlSpec
from sigma_framework.types import Result, RgbImage

SHOWN_PIXELS = 256
"""Height of the pictures that a report keeps."""
SHAPE_TOLERANCE = 0.01
"""How far an image's ratio of sides may be from its scene's; such an image is scaled to the scene's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How images are measured, built from a recipe."""

    metrics: Mapping[str, Metric]
    """By the recipe's names."""
    better: Mapping[str, str]
    """``higher`` or ``lower``, by the recipe's names."""
    about: Mapping[str, str]
    """What each says, one line, by the recipe's names."""
    control_specs: Mapping[str, ControlSpec]
    """By registered type."""
    encoder: Callable[[str], ControlEncoder]
    """Encoder of a registered control type."""
    identity_size: int
    """Side of an identity block, pixels."""
    identity_padding: float
    """Side of the block over the longer side of a cut-out subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One measured image, as far as reports need it."""

    image: str
    """File name."""
    group: str
    """Name of its set."""
    key: str
    """Name of the example."""
    subjects: int
    """Number of subjects."""
    controls: tuple[str, ...]
    """Control type of each subject."""
    seed: int | None
    """What it was made from."""
    seconds: float
    """Wall time that it took; NaN when unknown."""
    memory: float
    """Peak meanwhile, MiB; NaN when unknown."""
    prompt: str
    """As the scene says it."""
    pictures: tuple[RgbImage, ...]
    """Identities, layout, image and, where there is one, target; at most ``SHOWN_PIXELS`` high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One column of numbers."""

    name: str
    """With its variant in brackets."""
    better: str
    """``higher`` or ``lower``."""
    about: str
    """What it says, one line."""
    values: tuple[float, ...]
    """One per image; NaN where it does not apply."""
    facts: Mapping[str, Any]
    """What it was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that the reports say."""

    system: str
    """What made the images."""
    heading: str
    """One line: what was evaluated."""
    memory_of: str
    """Whose memory was measured."""
    scored: Sequence[Scored]
    """In the order of the images."""
    measures: Sequence[Measure]
    """Columns."""
    notes: Sequence[str]
    """Markdown that metrics add."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the sets, in order."""
        return tuple(dict.fromkeys(scene.group for scene in self.scored))

    def of_group(self, group: str) -> list[int]:
        """Numbers of a set's scenes."""
        return [number for number, scene in enumerate(self.scored) if scene.group == group]

    def values(self, measure: Measure, scenes: Sequence[int]) -> list[float]:
        """The values of some scenes, given by number, without those where the measure does not apply."""
        return [measure.values[number] for number in scenes if not math.isnan(measure.values[number])]


def score_generations(work: Scoring, manifest: Manifest, folder: Path, progress: Progress) -> Measured:
    """Measures every image of a folder.

    Raises:
        DataError: files that are missing, damaged or do not fit together, all of them told.
    """
    _require_sound(work, manifest, folder)
    scored: list[Scored] = []
    encoders: dict[str, ControlEncoder] = {}
    progress.begin("scores", len(manifest.images))
    for entry in manifest.images:
        resolved = _scene(work, folder, entry)
        for subject in resolved.subjects:
            if subject.control not in encoders:
                encoders[subject.control] = work.encoder(subject.control)
        controls, _ = condition_scene(resolved, encoders, work.identity_size, work.identity_padding)
        size = resolved.canvas.width, resolved.canvas.height
        image = _picture(place_of(folder, entry.image), size)
        target = None if entry.target is None else np.asarray(_picture(place_of(folder, entry.target), size))
        result = Result(
            images=(image,),
            controls=controls,
            scene=resolved.scene,
            seeds=(entry.seed or 0,),
            seconds=math.nan if entry.seconds is None else entry.seconds,
        )
        for metric in work.metrics.values():
            metric.update(result, result.scene, target)
        scored.append(_scored(entry, result, target))
        progress.advance()
    progress.finish()
    return Measured(
        system=manifest.system or folder.resolve().name,
        heading=manifest.heading or f"{len(scored)} images of {manifest.system or folder.resolve().name}.",
        memory_of=manifest.memory_of or "as its manifest says",
        scored=scored,
        measures=list(_measures(work)),
        notes=[metric.markdown() for metric in work.metrics.values() if hasattr(metric, "markdown")],
    )


def _measures(work: Scoring) -> Iterator[Measure]:
    """The columns of all metrics.

    Raises:
        PluginError: two metrics give a column of one name.
    """
    owner: dict[str, str] = {}
    for block, metric in work.metrics.items():
        facts = metric.facts() if hasattr(metric, "facts") else {}
        for name, values in metric.compute().items():
            if name in owner:
                raise PluginError(
                    f"metrics.{owner[name]} and metrics.{block} both give {name}; remove one, or give it a label"
                )
            owner[name] = block
            yield Measure(
                name=name,
                better=work.better[block],
                about=work.about.get(block, ""),
                values=tuple(values),
                facts=facts,
            )


def _require_sound(work: Scoring, manifest: Manifest, folder: Path) -> None:
    """Opens everything once before anything is measured, so that all problems are told together."""
    problems: list[Problem] = []
    for number, entry in enumerate(manifest.images):
        where = f"images[{number}]"
        size = None
        try:
            resolved = _scene(work, folder, entry)
            size = resolved.canvas.width, resolved.canvas.height
        except SigmaError as error:
            inner = error.problems or (Problem("", error.message),)
            problems += [Problem(f"{where}.scene ({entry.scene})", str(one)) for one in inner]
        except ValueError as error:
            problems.append(Problem(f"{where}.scene", str(error)))
        for key, name in (("image", entry.image), ("target", entry.target)):
            if name is None:
                continue
            try:
                _require_picture(place_of(folder, name), name, size)
            except ValueError as error:
                problems.append(Problem(f"{where}.{key}", str(error)))
    if problems:
        raise DataError(f"{folder}", problems)


def _scene(work: Scoring, folder: Path, entry: Generation) -> ResolvedScene:
    return Scene.load_shown(place_of(folder, entry.scene), place_of(folder, entry.image), work.control_specs)


def _require_picture(path: Path, name: str, size: tuple[int, int] | None) -> None:
    """Raises ``ValueError`` unless the file is a whole picture of the scene's shape."""
    if not path.is_file():
        raise ValueError(f'"{name}" is not there')
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            image.load()
            found = image.size
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise ValueError(f'"{name}" is damaged or no PNG, JPEG or WebP ({error})') from error
    if size is not None and abs(found[0] * size[1] / (found[1] * size[0]) - 1) > SHAPE_TOLERANCE:
        raise ValueError(
            f'"{name}" has {found[0]}x{found[1]} pixels, its scene {size[0]}x{size[1]}; expected the same shape'
        )


def _picture(path: Path, size: tuple[int, int]) -> Image.Image:
    """RGB, of the scene's size."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _scored(entry: Generation, result: Result, target: RgbImage | None) -> Scored:
    controls = result.controls
    shown = [controls.identity, controls.layout, np.asarray(result.images[0]), *([] if target is None else [target])]
    return Scored(
        image=entry.image,
        group=entry.source,
        key=entry.key,
        subjects=len(result.scene.subjects),
        controls=tuple(str(subject.control["type"]) for subject in result.scene.subjects),
        seed=entry.seed,
        seconds=result.seconds,
        memory=math.nan if entry.peak_mib is None else entry.peak_mib,
        prompt=result.scene.prompt,
        pictures=tuple(_small(picture, len(result.scene.subjects) if k == 0 else 1) for k, picture in enumerate(shown)),
    )


def _small(picture: RgbImage, blocks: int) -> RgbImage:
    """At most ``SHOWN_PIXELS`` high per block, so that a report of many scenes fits into memory."""
    height, width = picture.shape[:2]
    if height <= SHOWN_PIXELS * blocks:
        return picture
    scale = SHOWN_PIXELS * blocks / height
    size = max(1, round(width * scale)), SHOWN_PIXELS * blocks
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
