"""The offline recipe end to end: how well it segments and fits boxes, measured against the truth it never reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_framework import Framework
from sigma_framework.shards import check_set

ROOT = Path(__file__).parents[2]
COUNT = 16


def load_measures() -> Any:
    """``bench/offline_set.py``, which measures 200 images as this test does a few."""
    spec = importlib.util.spec_from_file_location("offline_set", ROOT / "bench" / "offline_set.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURES = load_measures()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline") / "run"
    Framework.load(MEASURES.RECIPE, [f"build.count={COUNT}", "build.workers=0", f"run.dir={folder}"]).run()
    return folder


def test_the_set_is_sound_and_says_what_was_rejected(folder: Path) -> None:
    report = check_set(folder / "shards")
    assert report.problems == ()
    assert report.samples >= 0.7 * COUNT
    assert report.with_depth == report.samples
    assert min(report.per_subjects) >= 3
    page = (folder / "report.html").read_text()
    assert "subjects not found" in page


def test_the_segmenter_finds_what_is_there(folder: Path) -> None:
    overlaps = MEASURES.mask_overlaps(folder)
    assert len(overlaps) > 3 * COUNT * 0.7
    assert np.mean(overlaps) >= 0.80


def test_boxes_from_true_depth(folder: Path) -> None:
    """The fitter alone, with true masks, against the solids' own boxes; then with the masks of the segmenter."""
    boxes = MEASURES.box_overlaps(folder)
    angular = boxes["true masks, angular"]
    every = np.concatenate([angular, boxes["true masks, round"]])
    assert len(every) > 3 * COUNT * 0.7
    solid, silhouette, held = np.median(every, axis=0)
    assert solid >= 0.6
    assert silhouette >= 0.9
    assert held >= 0.95, "the box's silhouette holds the subject"
    assert np.median(angular[:, 1]) >= 0.93, "what has corners shows how its box is turned"
    found = np.concatenate([boxes["found masks, angular"], boxes["found masks, round"]])
    assert np.median(found[:, 0]) >= 0.6
