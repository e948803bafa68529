"""The filter of section A.1: size, doubles, count."""

from __future__ import annotations

import numpy as np
import pytest

from sigma_annotators.config import SubjectFilterConfig
from sigma_annotators.plugin import sigma_register_annotators
from sigma_annotators.subject_filter import SubjectFilter, overlap
from sigma_framework import DataError
from sigma_framework.testing import AnnotatorConformance, PluginConformance

SIDE = 100


def record(*boxes: tuple[int, int, int, int], **more: object) -> dict[str, object]:
    """A record whose masks fill its boxes on a 100 x 100 image."""
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    captions = [f"subject {number}" for number in range(len(boxes))]
    return {"masks": masks, "boxes_xyxy": np.array(boxes, np.float64), "captions": captions, **more}


def kept(given: dict[str, object], **options: float) -> list[list[str]]:
    """Captions of the records that come out."""
    config = SubjectFilterConfig(**{"min_subjects": 0, **options})  # type: ignore[arg-type]
    made = SubjectFilter(config).annotate([given], np.random.default_rng(0))
    return [list(one["captions"]) for one in made]


class TestSubjectFilter(AnnotatorConformance):
    spec = next(spec for spec in sigma_register_annotators() if spec.name == "subject_filter")
    records = (record((0, 0, 30, 30), (40, 0, 70, 30), (0, 40, 30, 70), (40, 40, 70, 70), (0, 0, 5, 5)),)


class TestPlugin(PluginConformance):
    module = "sigma_annotators.plugin"


def test_tiny_and_huge_boxes_go() -> None:
    given = record((0, 0, 9, 10), (20, 20, 30, 30), (0, 0, 100, 41), (0, 50, 80, 100))
    assert kept(given) == [["subject 1", "subject 3"]]


def test_of_doubles_the_first_stays() -> None:
    given = record((0, 0, 40, 40), (2, 0, 42, 40), (50, 50, 90, 90))
    assert kept(given) == [["subject 0", "subject 2"]]


def test_a_part_inside_a_whole_goes() -> None:
    assert kept(record((0, 0, 40, 40), (10, 10, 22, 22))) == [["subject 0"]]


def test_neighbours_that_overlap_a_little_stay() -> None:
    given = record((0, 0, 40, 40), (20, 0, 60, 40))
    assert overlap(given["masks"][0], given["masks"][1]) == pytest.approx((1 / 3, 1 / 2))  # type: ignore[index]
    assert kept(given) == [["subject 0", "subject 1"]]


def test_a_subject_that_goes_makes_no_double() -> None:
    huge = (0, 0, 100, 100)
    assert kept(record(huge, (0, 0, 30, 30))) == [["subject 1"]]


def test_images_with_two_subjects_or_fewer_go() -> None:
    boxes = ((0, 0, 30, 30), (40, 0, 70, 30), (0, 40, 30, 70))
    assert kept(record(*boxes[:2]), min_subjects=3) == []
    assert kept(record(*boxes), min_subjects=3) == [["subject 0", "subject 1", "subject 2"]]


def test_other_keys_of_subjects_are_thinned_too() -> None:
    given = record((0, 0, 2, 2), (40, 0, 70, 30), scores=(0.9, 0.8), prompt="a table", per_subject=("scores",))
    (made,) = SubjectFilter(SubjectFilterConfig(min_subjects=1)).annotate([given], np.random.default_rng(0))
    assert made["scores"] == (0.8,)
    assert made["prompt"] == "a table"
    assert made["masks"].shape == (1, SIDE, SIDE)
    assert made["boxes_xyxy"].shape == (1, 4)


def test_the_order_from_front_to_back_follows_the_subjects_that_stay() -> None:
    boxes = ((0, 0, 30, 30), (0, 0, 2, 2), (40, 0, 70, 30), (0, 40, 30, 70))
    given = record(*boxes, mask_kind="whole", front_to_back=[3, 1, 0, 2])
    (made,) = SubjectFilter(SubjectFilterConfig()).annotate([given], np.random.default_rng(0))
    assert made["captions"] == ["subject 0", "subject 2", "subject 3"]
    assert made["front_to_back"] == [2, 0, 1]


def test_lengths_that_differ_are_told() -> None:
    given = record((0, 0, 30, 30), key="shard-3/17")
    given["captions"] = ["one", "two"]
    with pytest.raises(DataError, match=r"shard-3/17.*captions"):
        list(SubjectFilter(SubjectFilterConfig()).annotate([given], np.random.default_rng(0)))


def test_empty_masks_go() -> None:
    given = record((0, 0, 30, 30), (40, 0, 70, 30))
    given["masks"][0] = False  # type: ignore[index]
    assert kept(given) == [["subject 1"]]


@pytest.mark.parametrize("wrong", [{"min_area_share": 0.5}, {"max_iou": 2.0}, {"min_subjects": -1}])
def test_senseless_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SubjectFilterConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "height", "stays"),
    [(10, 10, True), (10, 9, False), (80, 50, True), (80, 51, False)],
    ids=["1 %", "under 1 %", "40 %", "over 40 %"],
)
def test_area_limits_on_both_sides(width: int, height: int, stays: bool) -> None:
    assert kept(record((0, 0, width, height))) == ([["subject 0"]] if stays else [[]])


@pytest.mark.parametrize(("shift", "stays"), [(10, True), (9, False)], ids=["0.6", "0.64"])
def test_the_duplicate_limit_on_both_sides(shift: int, stays: bool) -> None:
    """Two boxes of 40 x 40, shifted: (40 - s) / (40 + s), against 0.625."""
    made = kept(record((0, 0, 40, 40), (shift, 0, 40 + shift, 40)))
    assert made == [["subject 0", "subject 1"] if stays else ["subject 0"]]


@pytest.mark.parametrize(("inside", "stays"), [(16, True), (17, False)], ids=["0.8", "0.85"])
def test_the_containment_limit_on_both_sides(inside: int, stays: bool) -> None:
    """A box of 20 x 20 of which so many columns lie inside a larger one, against 0.8."""
    made = kept(record((0, 0, 50, 50), (50 - inside, 10, 70 - inside, 30)))
    assert made == [["subject 0", "subject 1"] if stays else ["subject 0"]]


def test_reasons_are_given_to_a_build() -> None:
    given = record((0, 0, 5, 5), (0, 0, 90, 90), (0, 0, 30, 30), (1, 0, 31, 30), key="a")
    (made,) = SubjectFilter(SubjectFilterConfig()).annotate_or_reject([given], np.random.default_rng(0))
    assert made["rejected"] == "fewer than 3 subjects left"
    assert made["counts"] == {
        "subjects too small": 1,
        "subjects too large": 1,
        "subjects found twice": 1,
        "subjects covered by smaller ones": 0,
    }


def test_a_subject_that_smaller_ones_cover_goes() -> None:
    """Neither of the two in front holds enough of it to be its double."""
    front = (4, 10, 30, 50), (30, 10, 56, 50)
    assert kept(record((10, 10, 50, 50), *front)) == [["subject 1", "subject 2"]]
    every = [["subject 0", "subject 1", "subject 2"]]
    assert kept(record((10, 10, 50, 50), *front, mask_kind="whole")) == every
    assert kept(record((10, 10, 50, 51), *front)) == every
