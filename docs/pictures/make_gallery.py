"""Makes the pictures of docs/gallery.md with the shipped model: python docs/pictures/make_gallery.py [NAME ...]

Scenes come from toybox's split ``test``, which no training saw; every picture is the first that seed 0 gives. Warnings
that a scene raises are printed below the picture's name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from sigma_datasources.toybox.annotators import oracle_depth
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.scenery import draw_scenery
from sigma_datasources.toybox.source import ToyboxSource, generator_of
from sigma_framework import DepthRaster, Example, Framework, Result, Scene, Subject, SubjectAnnotation
from sigma_framework.picture_grid import grid_picture
from sigma_framework.types import RgbImage

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("gallery")
SIDE = 128
TITLES = ("identities", "layout", "I^C", "result")
Rows = list[list[RgbImage]]


class Gallery:
    """Scenes, the model, and what each picture shows."""

    def __init__(self) -> None:
        self.framework = Framework.load(ROOT / "recipes" / "generate.yaml")
        self.source = ToyboxSource(ToyboxConfig(split="test"))
        self.warnings: list[str] = []

    def controls(self) -> Rows:
        """One scene said by each kind of control, and by all of them at once."""
        example = self.example(4, 0)
        kinds = [[kind] * 4 for kind in ("depth", "mask", "box3d", "box2d")] + [["mask", "depth", "box2d", "box3d"]]
        return [[*self.make(example, kinds_of), example.target] for kinds_of in kinds]

    def subjects(self) -> Rows:
        """One to six subjects, by masks with depth."""
        found = [self.example(count, 40 + count) for count in (1, 2, 3, 5, 6)]
        return [[*self.make(example, ["depth"] * len(example.subjects)), example.target] for example in found]

    def ten(self) -> Rows:
        """Ten subjects, by depth and by 2D boxes."""
        examples = [self.example(10, start) for start in (100, 200)]
        return [[*self.make(e, [kind] * 10), e.target] for e in examples for kind in ("depth", "box2d")]

    def reposing(self) -> Rows:
        """One identity under 3D boxes of other turns and distances (Figure 7)."""
        example = self.example(1, 60, "cube")
        box = example.subjects[0].box3d
        assert box is not None
        rows = []
        for turn, further in ((0, 1.0), (30, 1.0), (60, 1.0), (0, 1.5), (0, 2.2)):
            centre = tuple(value * further for value in box.center)
            rotation = (box.rotation[0], box.rotation[1] + turn, box.rotation[2])
            moved = {"type": "box3d", "center": centre, "size": box.size, "rotation": rotation}
            rows.append(self.make(example, [moved]))
        return rows

    def insertion(self) -> Rows:
        """One subject and three into a given picture (section 5.3)."""
        place = self.place_with_room(64)
        boxes = ([[72, 40, 122, 104]], [[66, 14, 96, 52], [92, 60, 124, 104], [58, 78, 88, 122]])
        rows = []
        for example, found in zip((self.example(1, 71), self.example(3, 75)), boxes, strict=True):
            controls = [{"type": "box2d", "xyxy": box} for box in found]
            scene = replace(self.scene(example, controls), prompt=place.prompt_background, camera=None)
            result = self.framework.insert(scene, background=place.target, seed=0)
            rows.append([*self.shown(result), place.target])
        return rows

    def free_masks(self) -> Rows:
        """Circles and hand-drawn blobs, which training never showed (A.3, Figure 11)."""
        example = self.example(3, 90)
        centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (s.box2d for s in example.subjects)]
        circles = [{"type": "mask", "file": blob(centre, 20, 0.0)} for centre in centres]
        blobs = [{"type": "mask", "file": blob(centre, 20, 0.35)} for centre in centres]
        return [self.make(example, circles), self.make(example, blobs)]

    def growing_depth(self) -> Rows:
        """Masks alone, depth for more and more subjects, depth of the whole scene (A.2, Figure 10)."""
        example, depth = self.with_scene_depth(3, 120)
        rows = [self.make(example, ["depth"] * known + ["mask"] * (3 - known)) for known in range(4)]
        whole = replace(
            self.scene(example, ["mask"] * 3),
            structure=DepthRaster(values=np.where(depth > 0, depth, 25.0), kind="metric"),
        )
        rows.append(self.shown(self.framework.generate(whole, seed=0)))
        return rows

    def styles(self) -> Rows:
        """One scene under other prompts: floor, wall, sky, light (A.4)."""
        example = self.example(3, 140)
        prompts = (
            "a beige planked floor before a pale green wall in warm light",
            "a dark floor before a grey wall in dim cool light",
            "a white tiled floor before a pale blue wall in bright neutral light",
            "a green floor under an orange sky in warm light",
        )
        scene = self.scene(example, ["depth"] * 3)
        return [self.shown(self.framework.generate(replace(scene, prompt=prompt), seed=0)) for prompt in prompts]

    def failures(self) -> Rows:
        """A.8 on purpose: boxes that nearly coincide; a subject hidden in both channels; a far turned view."""
        example = self.example(3, 160)
        together = [{"type": "box2d", "xyxy": [40 + 3 * k, 40 + 3 * k, 96 + 3 * k, 96 + 3 * k]} for k in range(3)]
        hidden = [[24, 24, 104, 104], [52, 52, 72, 72], [28, 28, 100, 100]]
        buried = [{"type": "box2d", "xyxy": box} for box in hidden]
        rows = [self.make(example, together), self.make(example, buried)]
        one = self.example(1, 63)
        box = one.subjects[0].box3d
        assert box is not None
        above = {"type": "box3d", "center": box.center, "size": box.size, "rotation": (80.0, 0.0, 0.0)}
        return [*rows, self.make(one, [above])]

    def example(self, subjects: int, start: int, solid: str = "") -> Example:
        """The first test example from ``start`` on with so many subjects, the first of them such a solid."""
        for index in range(start, len(self.source)):
            if self.source.subject_counts[index] == subjects:
                example = self.source[index]
                if example.subjects[0].caption.endswith(solid):
                    return example
        raise LookupError(f"no test scene of {subjects} subjects begins with a {solid}")

    def place_with_room(self, left_of: float) -> Example:
        """A scene whose only subject leaves the right side free."""
        return next(
            e for e in (self.example(1, start) for start in range(300, 900, 7)) if e.subjects[0].box2d[2] <= left_of
        )

    def with_scene_depth(self, subjects: int, start: int) -> tuple[Example, np.ndarray]:
        """An example and the depth of its whole scene, metres, 0 where there is none."""
        index = start + int(np.flatnonzero(self.source.subject_counts[start:] == subjects)[0])
        config = self.source.config
        scenery = draw_scenery(generator_of(config.seed, config.split, index), subjects, config)
        return self.source[index], oracle_depth(scenery)

    def scene(self, example: Example, controls: Sequence[str | dict[str, object]]) -> Scene:
        """What a user would write for an example; a control is a kind, derived from the truth, or written out."""
        subjects = []
        pairs = zip(example.subjects, example.identities, controls, strict=True)
        for number, (truth, identity, control) in enumerate(pairs):
            said = derived(truth, control) if isinstance(control, str) else control
            subjects.append(Subject(name=f"{number + 1}", image=identity, caption=truth.caption, control=said))
        camera, size = example.subjects[0].camera, (SIDE, SIDE)
        return Scene(subjects=tuple(subjects), prompt=example.prompt_background, size=size, camera=camera)

    def make(self, example: Example, controls: Sequence[str | dict[str, object]]) -> list[RgbImage]:
        """The row of one scene."""
        return self.shown(self.framework.generate(self.scene(example, controls), seed=0))

    def shown(self, result: Result) -> list[RgbImage]:
        """The row of one result; keeps its warnings."""
        self.warnings += result.warnings
        controls = result.controls
        return [controls.identity, controls.layout, controls.spatial, np.asarray(result.images[0])]


def derived(truth: SubjectAnnotation, kind: str) -> dict[str, object]:
    """A control of that kind from the truth."""
    box = truth.box3d
    assert box is not None
    said: dict[str, dict[str, object]] = {
        "mask": {"file": truth.mask},
        "depth": {"mask": truth.mask, "depth": truth.depth},
        "box2d": {"xyxy": truth.box2d},
        "box3d": {"center": box.center, "size": box.size, "rotation": box.rotation},
    }
    return {"type": kind, **said[kind]}


def blob(centre: tuple[float, float], radius: float, wobble: float) -> np.ndarray:
    """(128, 128) bool disk whose radius wobbles by that fraction, as a hand would draw it."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    across, down = columns - centre[0], rows - centre[1]
    angle = np.arctan2(down, across)
    reach = radius * (1 + wobble * (0.6 * np.sin(2 * angle + 1) + 0.4 * np.sin(5 * angle)))
    return np.hypot(across, down) <= reach


def pictures(gallery: Gallery) -> Iterator[tuple[str, Callable[[], Rows], Sequence[str]]]:
    """(file name, what makes its rows, column titles)."""
    yield "controls", gallery.controls, (*TITLES, "truth")
    yield "subjects", gallery.subjects, (*TITLES, "truth")
    yield "ten", gallery.ten, (*TITLES, "truth")
    yield "reposing", gallery.reposing, TITLES
    yield "insertion", gallery.insertion, (*TITLES, "given picture")
    yield "free_masks", gallery.free_masks, TITLES
    yield "growing_depth", gallery.growing_depth, TITLES
    yield "styles", gallery.styles, TITLES
    yield "failures", gallery.failures, TITLES


def main(names: Sequence[str]) -> None:
    """Writes the named pictures, all by default."""
    gallery = Gallery()
    FOLDER.mkdir(exist_ok=True)
    for name, rows, titles in pictures(gallery):
        if names and name not in names:
            continue
        gallery.warnings.clear()
        Image.fromarray(grid_picture(rows(), titles)).save(FOLDER / f"{name}.png", optimize=True)
        told = "".join(f"  {warning}\n" for warning in dict.fromkeys(gallery.warnings))
        sys.stdout.write(f"{name}\n{told}")


if __name__ == "__main__":
    main(sys.argv[1:])
