"""``segmenter``: detection and masks by small models of the real classes, thresholds on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_annotators.learned.config import FinderConfig, SegmenterConfig
from sigma_annotators.learned.finder import SubjectFinder
from sigma_annotators.learned.segmenter import Segmenter
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import WeightsError
from sigma_framework.testing import AnnotatorConformance

CAPTIONS = ["a red block", "a blue block", "a cup"]
RNG = np.random.default_rng(0)


def finder(folders: Path, **options: Any) -> FinderConfig:
    models = {"detector": str(folders / "detector"), "masks": str(folders / "masks")}
    return FinderConfig(**{**models, "box_threshold": 0.0, "text_threshold": 0.0, **options})


class TestSegmenter(AnnotatorConformance):
    spec: ClassVar[Any] = next(spec for spec in sigma_register_annotators() if spec.name == "segmenter")
    options: ClassVar[dict[str, Any]] = {}
    records: ClassVar[Any] = ()

    @pytest.fixture(autouse=True)
    def _models(self, folders: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        config = finder(folders)
        monkeypatch.setattr(type(self), "options", {"finder": {name: getattr(config, name) for name in (
            "detector", "masks", "box_threshold", "text_threshold")}})  # fmt: skip
        monkeypatch.setattr(type(self), "records", ({"key": "a", "target": picture, "captions": CAPTIONS},))


def test_every_caption_is_looked_for_by_itself(folders: Path, picture: np.ndarray) -> None:
    found = SubjectFinder("segmenter", finder(folders), "cpu", "float32")
    together = found.find(picture, CAPTIONS)
    for caption, one in zip(CAPTIONS, together, strict=True):
        (alone,) = found.find(picture, [caption])
        assert one is not None and alone is not None
        assert one.box == alone.box
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 48
        assert one.mask.shape == (48, 64)
        assert one.mask.dtype == np.bool_


def test_the_surest_subject_comes_first(folders: Path, picture: np.ndarray) -> None:
    record = {"key": "a", "target": picture, "captions": CAPTIONS, "names": [0, 1, 2], "per_subject": ["names"]}
    (made,) = Segmenter(SegmenterConfig(finder=finder(folders))).annotate([record], RNG)
    assert made["scores"] == sorted(made["scores"], reverse=True)
    assert [CAPTIONS[number] for number in made["names"]] == made["captions"]
    assert made["masks"].shape == (3, 48, 64)
    assert set(made["provenance"]["models"]) == {"detector", "masks"}


def test_thresholds_on_both_sides(folders: Path, picture: np.ndarray) -> None:
    (one,) = SubjectFinder("segmenter", finder(folders), "cpu", "float32").find(picture, CAPTIONS[:1])
    assert one is not None
    for shift, there in ((-1e-4, True), (1e-4, False)):
        config = finder(folders, box_threshold=min(1.0, one.score + shift))
        (again,) = SubjectFinder("segmenter", config, "cpu", "float32").find(picture, CAPTIONS[:1])
        assert (again is not None) == there
    (none,) = SubjectFinder("segmenter", finder(folders, text_threshold=1.0), "cpu", "float32").find(picture, ["a cup"])
    assert none is None, "a detection that answers to no word of the caption does not count"


def test_what_is_not_found_goes_and_masks_that_are_there_stay(folders: Path, picture: np.ndarray) -> None:
    stage = Segmenter(SegmenterConfig(finder=finder(folders, box_threshold=1.0)))
    record = {"key": "a", "target": picture, "captions": CAPTIONS}
    (gone,) = stage.annotate_or_reject([record], RNG)
    assert gone == {"key": "a", "rejected": "no subject found", "counts": {"subjects not found": 3}}
    assert list(stage.annotate([record], RNG)) == []
    masks = np.ones((3, 48, 64), bool)
    (kept,) = stage.annotate([{**record, "masks": masks}], RNG)
    assert kept["masks"] is masks


def test_models_that_are_not_here_are_named(folders: Path, offline: None, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"segmenter: finder\.detector: IDEA-Research/grounding-dino-base is not on"):
        Segmenter(SegmenterConfig())
    with pytest.raises(WeightsError, match=r"segmenter: finder\.masks: facebook/sam-vit-huge is not on this machine"):
        Segmenter(SegmenterConfig(finder=FinderConfig(detector=str(folders / "detector"))))
    with pytest.raises(WeightsError, match="cannot be read"):
        Segmenter(SegmenterConfig(finder=finder(folders, masks=str(tmp_path))))


def test_thresholds_are_those_of_the_paper_and_shares() -> None:
    assert (FinderConfig().box_threshold, FinderConfig().text_threshold) == (0.35, 0.25)
    with pytest.raises(ValueError, match="box_threshold"):
        FinderConfig(box_threshold=1.5)
