"""How right the offline builder is, and what each of its stages costs: ``python bench/offline_set.py [RUN_FOLDER]``.

RUN_FOLDER is one that ``sigma-run recipes/sigma_set_offline.yaml build.count=200`` filled; without it a build of 40
images is made in a temporary folder. Masks are compared with the truth that the segmenter never reads; boxes are fitted
from true depth, with true masks and with those that the segmenter found.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.classical.box_fitter import BoxFitter
from sigma_annotators.classical.config import BoxFitterConfig
from sigma_controls.box3d import intersect_rays, rotation_matrix
from sigma_datasources.toybox.source import annotate
from sigma_datasources.toybox.told_scenery import scenery_of
from sigma_framework import Box3D, Canvas, Framework, SubjectAnnotation
from sigma_framework.dataset_build.records import read_unit

RECIPE = Path(__file__).parents[1] / "recipes" / "sigma_set_offline.yaml"
SMALL = 40
ROUND = ("sphere", "cylinder", "cone", "capsule", "hexagon", "octahedron")
"""Solids whose own box no picture tells: round ones have no turn, an octahedron's smallest box lies across its own."""
Masks = NDArray[np.bool_]


def records(folder: Path, last: str) -> Iterator[tuple[dict[str, Any], tuple[SubjectAnnotation, ...]]]:
    """(record, truth) after the stage folder ``last``, e.g. ``04-filter``."""
    stages = sorted(path for path in (folder / "stages").glob("[0-9]*-*") if path.name <= last)
    for file in sorted(stages[0].glob("*/*.unit")):
        before: list[dict[str, Any]] = []
        for stage in stages:
            before, _ = read_unit(stage / file.parent.name / file.name, before)
        for record in before:
            yield record, annotate(scenery_of(record["toybox"]))


def mask_overlaps(folder: Path) -> list[float]:
    """IoU with the truth of each mask that passed the filter."""
    found = []
    for record, truth in records(folder, "04-filter"):
        for mask, number in zip(record["masks"], record["subject_numbers"], strict=True):
            real = truth[number].mask
            found.append(float((mask & real).sum() / (mask | real).sum()))
    return found


def box_overlaps(folder: Path) -> dict[str, NDArray[np.float64]]:
    """By kind of masks and solid: (S, 3) IoU of volumes, IoU of silhouettes, share of the subject in the silhouette."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for record, truth in records(folder, "05-oracle"):
        told = [truth[number] for number in record["subject_numbers"]]
        given = {"true masks": (np.stack([subject.mask for subject in truth]), truth, 0)}
        given["found masks"] = (record["masks"], told, 1)
        for name, (masks, subjects, erosion) in given.items():
            (made,) = BoxFitter(BoxFitterConfig(erosion=erosion)).annotate(
                [{**record, "masks": masks}], np.random.default_rng(0)
            )
            for box, subject in zip(made["boxes_3d"], subjects, strict=True):
                kind = "round" if any(word in subject.caption for word in ROUND) else "angular"
                rows.setdefault(f"{name}, {kind}", []).append(_box_overlap(box, subject))
    return {name: np.array(values) for name, values in rows.items()}


def solid_iou(one: Box3D, other: Box3D) -> float:
    """By 4,000 random points of the first box."""
    points = (np.random.default_rng(0).random((4000, 3)) - 0.5) * one.size @ rotation_matrix(one.rotation).T
    points = points + np.array(one.center) - np.array(other.center)
    shared = (np.abs(points @ rotation_matrix(other.rotation)) <= np.array(other.size) / 2).all(axis=1).mean()
    volumes = float(np.prod(one.size)), float(np.prod(other.size))
    return float(shared * volumes[0] / (sum(volumes) - shared * volumes[0]))


def _box_overlap(box: Any, subject: SubjectAnnotation) -> tuple[float, float, float]:
    if box is None:
        return 0.0, 0.0, 0.0
    assert subject.box3d is not None
    height, width = subject.mask.shape
    canvas = Canvas(width=width, height=height, camera=subject.camera)
    fitted = Box3D(**{name: tuple(value) for name, value in box.items()})
    window = slice(0, height), slice(0, width)
    shown, real = (intersect_rays(one, canvas, *window)[0] for one in (fitted, subject.box3d))
    held = float((shown & subject.mask).sum() / subject.mask.sum())
    return solid_iou(fitted, subject.box3d), float((shown & real).sum() / (shown | real).sum()), held


def build(folder: Path, count: int) -> None:
    """Runs the recipe in one process and prints the CPU time of each stage."""
    marks: list[tuple[str, float]] = []

    class Clock:
        """Progress that only looks at the clock."""

        def begin(self, title: str, total: int, done: int = 0) -> None:
            marks.append((title, time.process_time()))

        def advance(self, steps: int = 1, note: str = "") -> None: ...

        def finish(self) -> None: ...

        def note(self, text: str) -> None:
            print(f"  {text}")

    framework = Framework.load(RECIPE, [f"build.count={count}", "build.workers=0", f"run.dir={folder}"])
    framework.progress = Clock()
    framework.run()
    marks.append(("", time.process_time()))
    print(f"CPU seconds of {count} images, one process")
    for (title, start), (_, end) in pairwise(marks):
        print(f"  {title:12} {end - start:7.1f}")
    print(f"  {'together':12} {marks[-1][1] - marks[0][1]:7.1f}")


def measure(folder: Path) -> None:
    """Prints how right masks and boxes are."""
    masks = np.array(mask_overlaps(folder))
    print(f"{len(masks)} masks that passed the filter: IoU mean {masks.mean():.3f}, median {np.median(masks):.3f}")
    boxes = box_overlaps(folder)
    print("boxes from true depth, medians: 3D IoU, silhouette IoU, subject inside the silhouette")
    for kind in ("true masks", "found masks"):
        own = {name: rows for name, rows in boxes.items() if name.startswith(kind)}
        for name, rows in [*own.items(), (f"{kind}, all", np.concatenate(list(own.values())))]:
            solid, flat, held = np.median(rows, axis=0)
            print(f"  {name:22} {len(rows):5} subjects  {solid:.3f}  {flat:.3f}  {held:.3f}")


def main() -> None:
    """Measures the folder that is named, or a small build of its own."""
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "run", SMALL)
        measure(Path(folder) / "run")


if __name__ == "__main__":
    main()
