"""The offline recipe end to end: how well it segments and fits boxes, measured against the truth it never reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_controls.box3d import intersect_rays, rotation_matrix
from sigma_datasources.toybox.source import annotate
from sigma_datasources.toybox.told_scenery import scenery_of
from sigma_framework import Box3D, Canvas, Framework
from sigma_framework.dataset_build.records import read_unit
from sigma_framework.shards import check_set

RECIPE = Path(__file__).parents[2] / "recipes" / "sigma_set_offline.yaml"
COUNT = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline") / "run"
    Framework.load(RECIPE, [f"build.count={COUNT}", "build.workers=0", f"run.dir={folder}"]).run()
    return folder


def records(folder: Path, last: str) -> list[dict[str, Any]]:
    found = []
    stages = sorted(path for path in (folder / "stages").glob("[0-9]*-*") if path.name <= last)
    for unit in range(COUNT):
        before: list[dict[str, Any]] = []
        for stage in stages:
            before, _ = read_unit(stage / "00000" / f"{unit:08d}.unit", before)
        found += before
    return found


def solid_iou(one: Box3D, other: Box3D) -> float:
    """By 4,000 random points of the first box."""
    points = (np.random.default_rng(0).random((4000, 3)) - 0.5) * one.size @ rotation_matrix(one.rotation).T
    points = points + np.array(one.center) - np.array(other.center)
    shared = (np.abs(points @ rotation_matrix(other.rotation)) <= np.array(other.size) / 2).all(axis=1).mean()
    volumes = float(np.prod(one.size)), float(np.prod(other.size))
    return float(shared * volumes[0] / (sum(volumes) - shared * volumes[0]))


def test_the_set_is_sound_and_says_what_was_rejected(folder: Path) -> None:
    report = check_set(folder / "shards")
    assert report.problems == ()
    assert report.samples >= 0.7 * COUNT
    assert report.with_depth == report.samples
    assert min(report.per_subjects) >= 3
    page = (folder / "report.html").read_text()
    assert "subjects not found" in page


def test_the_segmenter_finds_what_is_there(folder: Path) -> None:
    overlaps = []
    for record in records(folder, "04-filter"):
        truth = annotate(scenery_of(record["toybox"]))
        for mask, number in zip(record["masks"], record["subject_numbers"], strict=True):
            real = truth[number].mask
            overlaps.append((mask & real).sum() / (mask | real).sum())
    assert len(overlaps) > 3 * COUNT * 0.7
    assert np.mean(overlaps) >= 0.80


def test_boxes_from_true_depth_and_masks(folder: Path) -> None:
    """The fitter alone: true masks and true depth in, against the solid's own box."""
    from sigma_annotators.classical.box_fitter import BoxFitter
    from sigma_annotators.classical.config import BoxFitterConfig

    solid, covered, flat = [], [], []
    for record in records(folder, "05-oracle"):
        truth = annotate(scenery_of(record["toybox"]))
        given = {**record, "masks": np.stack([subject.mask for subject in truth])}
        (made,) = BoxFitter(BoxFitterConfig(erosion=0)).annotate([given], np.random.default_rng(0))
        height, width = record["target"].shape[:2]
        canvas = Canvas(width=width, height=height, camera=truth[0].camera)
        window = slice(0, height), slice(0, width)
        for box, subject in zip(made["boxes_3d"], truth, strict=True):
            fitted, real = Box3D(**{name: tuple(value) for name, value in box.items()}), subject.box3d
            assert real is not None
            solid.append(solid_iou(fitted, real))
            shown = intersect_rays(fitted, canvas, *window)[0]
            covered.append((shown & subject.mask).sum() / subject.mask.sum())
            shapes = [intersect_rays(one, canvas, *window)[0] for one in (fitted, real)]
            flat.append((shapes[0] & shapes[1]).sum() / (shapes[0] | shapes[1]).sum())
    assert np.median(solid) >= 0.6
    assert np.median(covered) >= 0.9, "the box's silhouette holds the subject"
    assert np.median(flat) >= 0.75, "round solids have no turn of their own, so their boxes' silhouettes differ"
