"""Which scenes are evaluated, and what a user would write to get their images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sigma_framework.conditioning.prompts import PromptKind
from sigma_framework.errors import DataError
from sigma_framework.protocols import ControlEncoder, DataSource
from sigma_framework.scene import Scene, Subject
from sigma_framework.types import Canvas, DepthRaster, Example, FloatMap


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneGroup:
    """Scenes whose numbers are told together."""

    name: str
    """Of the source in the recipe."""
    source: DataSource
    """Where scenes come from."""
    scenes: int
    """How many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlDraw:
    """How the places of a scene's subjects are said."""

    controls: tuple[str, ...]
    """Control types that are drawn from."""
    per_subject: bool = False
    """Draw for each subject, not once per scene (A.5)."""

    def draw(self, subjects: int, rng: np.random.Generator) -> list[str]:
        """One control type per subject."""
        draws = rng.integers(len(self.controls), size=subjects if self.per_subject else 1)
        names = [self.controls[int(index)] for index in draws]
        return names if self.per_subject else names * subjects


def chosen_scenes(group: SceneGroup, subjects: int | None) -> Sequence[int]:
    """The first scenes of a source that have the wanted number of subjects, those with fewer subjects first.

    Raises:
        DataError: there are too few.
    """
    counts = np.asarray(group.source.subject_counts)
    fits = np.arange(len(counts)) if subjects is None else np.flatnonzero(counts == subjects)
    if len(fits) < group.scenes:
        raise DataError(
            f"evaluate.scenes: found {len(fits)} scenes with {subjects or 'any number of'} subjects in the "
            f"source {group.name}, expected {group.scenes}; ask for fewer or change evaluate.subjects"
        )
    chosen = fits[: group.scenes]
    return [int(index) for index in chosen[np.argsort(counts[chosen], kind="stable")]]


def scene_of_example(
    example: Example,
    controls: Sequence[str],
    encoders: Mapping[str, ControlEncoder],
    rng: np.random.Generator,
    order: Sequence[int] | None = None,
    prompt: PromptKind = "background",
    structure: FloatMap | None = None,
) -> Scene:
    """What a user would write to get this image: the annotation said by controls, and a prompt.

    Args:
        example: with annotations.
        controls: one control type per subject.
        encoders: by control type.
        rng: decides what a control draws when it is derived.
        order: ``order[k]`` is the identity that subject k is given; None gives each its own.
        prompt: of the place alone, or of everything.
        structure: (H, W) metres, the depth of the whole picture in the place of the subjects'.
    """
    height, width = example.target.shape[:2]
    canvas = Canvas(width=width, height=height, camera=example.subjects[0].camera)
    given = range(len(example.subjects)) if order is None else order
    subjects = []
    for number, (annotation, control, identity) in enumerate(zip(example.subjects, controls, given, strict=True)):
        geometry = encoders[control].derive(annotation, canvas, rng)
        said = {field.name: getattr(geometry, field.name) for field in dataclasses.fields(geometry)}
        subjects.append(
            Subject(
                name=f"subject{number + 1}",
                image=example.identities[identity],
                caption=example.subjects[identity].caption,
                control={"type": control, **{key: value for key, value in said.items() if value is not None}},
            )
        )
    return Scene(
        subjects=tuple(subjects),
        prompt=example.prompt_full if prompt == "full" else example.prompt_background,
        prompt_kind=prompt,
        size=(width, height),
        camera=canvas.camera,
        structure=None if structure is None else DepthRaster(values=structure, kind="metric"),
    )
