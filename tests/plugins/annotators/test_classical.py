"""Annotators without a model: the kit, the grammar, segmentation that segments, boxes of known shapes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_annotators.classical.box_fitter import BoxFitter, unproject
from sigma_annotators.classical.colour import colour_word, lab
from sigma_annotators.classical.colour_segmenter import ColourSegmenter
from sigma_annotators.classical.completion import CutoutIdentities, PlainPrompts
from sigma_annotators.classical.config import (
    BoxFitterConfig,
    ColourSegmenterConfig,
    CutoutIdentitiesConfig,
    PlainPromptsConfig,
    TemplatePromptsConfig,
)
from sigma_annotators.classical.oriented_boxes import Ground, find_ground, without_outliers
from sigma_annotators.classical.template_prompts import TemplatePrompts
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import Camera, DataError, RecipeError
from sigma_framework.testing import AnnotatorConformance

SPECS = {spec.name: spec for spec in sigma_register_annotators()}
RNG = np.random.default_rng(0)
GRAMMAR: dict[str, Any] = {
    "captions": ("{colour} {kind} block",),
    "backgrounds": ("a {floor} floor",),
    "words": {"colour": ("red", "green", "blue", "orange"), "kind": ("", "striped"), "floor": ("grey", "white")},
    "apart": ("colour",),
    "max_subjects": 4,
}


def painted(*blocks: tuple[int, int, int, int, tuple[int, int, int]], side: int = 64) -> np.ndarray:
    """Coloured rectangles (x0, y0, x1, y1, colour) on a noisy grey floor with a shadow across it."""
    rng = np.random.default_rng(1)
    picture = np.full((side, side, 3), 165.0)
    picture[side // 2 :, : side // 3] *= 0.7
    for x0, y0, x1, y1, colour in blocks:
        picture[y0:y1, x0:x1] = colour
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


SCENE = painted((8, 8, 26, 30, (200, 30, 30)), (34, 20, 56, 50, (35, 90, 225)))
CUBE_CAMERA = Camera.from_fov_y(50, 96, 96)


def cube_record(yaw: float = 30.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record of one standing box on the ground, seen from above, ray by ray; and the box."""
    down = np.array([0.0, np.cos(np.radians(25)), np.sin(np.radians(25))])
    ahead = np.array([0.0, -np.sin(np.radians(25)), np.cos(np.radians(25))])
    right = np.array([1.0, 0, 0])
    size, height = np.array([1.0, 0.8, 0.6]), 1.5
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    axes = np.stack([c * right + s * ahead, down, -s * right + c * ahead], axis=1)
    center = 4.0 * ahead + (height - size[1] / 2) * down
    rows, columns = np.mgrid[:96, :96] + 0.5
    rays = np.stack([(columns - 48) / CUBE_CAMERA.fx, (rows - 48) / CUBE_CAMERA.fy, np.ones_like(rows)], axis=-1)
    with np.errstate(divide="ignore"):
        slopes, offsets = rays @ axes, axes.T @ center
        low, high = (offsets - size / 2) / slopes, (offsets + size / 2) / slopes
        enter, leave = np.minimum(low, high).max(axis=-1), np.maximum(low, high).min(axis=-1)
        ground = np.where(rays @ down > 0.05, height / (rays @ down), 0)
    mask = (enter <= leave) & (enter > 0)
    depth = np.where(mask, enter, ground).astype(np.float32)
    camera = {name: getattr(CUBE_CAMERA, name) for name in ("fx", "fy", "cx", "cy")}
    truth = {"center": center, "size": size, "axes": axes}
    return {"key": "a", "masks": mask[None], "depth": depth, "camera": camera, "captions": ["a box"]}, truth


class TestTemplatePrompts(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["template_prompts"]
    options: ClassVar[dict[str, Any]] = GRAMMAR
    records: ClassVar[Any] = ({"key": "a"}, {"key": "b"})


class TestColourSegmenter(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["colour_segmenter"]
    records: ClassVar[Any] = ({"key": "a", "target": SCENE, "captions": ["a red block", "a blue block"]},)


class TestBoxFitter(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["box_fitter"]
    records: ClassVar[Any] = (cube_record()[0],)


class TestPlainPrompts(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["plain_prompts"]
    records: ClassVar[Any] = ({"key": "a", "captions": ["a cup", "a hat"]},)


class TestCutoutIdentities(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["cutout_identities"]
    options: ClassVar[dict[str, Any]] = {"identity_size": 32}
    records: ClassVar[Any] = ({"key": "a", "target": SCENE, "masks": cube_record()[0]["masks"][:, :64, :64]},)


def test_what_a_record_has_is_kept() -> None:
    record = {"key": "a", "captions": ["a cup", "a hat"], "prompt_full": "mine"}
    (made,) = PlainPrompts(PlainPromptsConfig(background="a desk")).annotate([record], RNG)
    assert (made["prompt_full"], made["prompt_background"]) == ("mine", "a desk")
    (made,) = PlainPrompts(PlainPromptsConfig()).annotate([{"key": "a", "captions": ["a cup", "a hat"]}], RNG)
    assert made["prompt_full"] == "a photograph of a cup and a hat"
    given = {"key": "a", "target": SCENE, "masks": np.ones((1, 64, 64), bool), "identities": ["mine"]}
    assert next(CutoutIdentities(CutoutIdentitiesConfig()).annotate([given], RNG))["identities"] == ["mine"]


def test_cutouts_show_the_subject_alone() -> None:
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 8:30, 8:26] = True
    stage = CutoutIdentities(CutoutIdentitiesConfig(identity_size=44, padding=1.0))
    (made,) = stage.annotate([{"key": "a", "target": SCENE, "masks": masks}], RNG)
    (identity,) = made["identities"]
    assert np.abs(identity[22, 22].astype(int) - (200, 30, 30)).max() < 12
    assert (identity[:, 0] == 255).all()
    assert made["per_subject"] == ["identities"]


def prompts(seed: int, **options: Any) -> dict[str, Any]:
    (made,) = TemplatePrompts(TemplatePromptsConfig(**{**GRAMMAR, **options})).annotate(
        [{"key": "a"}], np.random.default_rng(seed)
    )
    return dict(made)


def test_prompts_name_every_subject_and_colours_stay_apart() -> None:
    counts = set()
    for seed in range(30):
        made = prompts(seed)
        assert all(caption in made["prompt_full"] for caption in made["captions"])
        assert made["prompt_background"] in made["prompt_full"]
        colours = [colour_word(caption) for caption in made["captions"]]
        assert len(set(colours)) == len(colours)
        assert "  " not in made["prompt_full"]
        counts.add(len(colours))
    assert counts == {3, 4}
    assert any("an orange" in caption for seed in range(9) for caption in prompts(seed)["captions"])


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"captions": ("{size} cube",)}, "words: nothing to choose from for size"),
        ({"full": ("{place}",)}, "full: found place"),
    ],
)
def test_a_template_without_words_is_an_error(options: dict[str, Any], what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        prompts(0, **options)


def test_the_grammar_invents_nothing_for_what_is_told() -> None:
    grammar = TemplatePrompts(TemplatePromptsConfig(**GRAMMAR))
    told = {"key": "a", "captions": ["a cup"], "prompt_full": "a cup", "prompt_background": "a desk"}
    assert list(grammar.annotate([told], RNG)) == [told]
    with pytest.raises(DataError, match="captions without prompt_full, prompt_background; use plain_prompts"):
        list(grammar.annotate([{"key": "a", "captions": ["a cup"]}], RNG))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_blocks_are_found_by_their_colours_whatever_their_order() -> None:
    truth = np.zeros((2, 64, 64), bool)
    truth[0, 8:30, 8:26], truth[1, 20:50, 34:56] = True, True
    segmenter = ColourSegmenter(ColourSegmenterConfig())
    masks = segmenter.segment(SCENE, ["a blue block", "a red block"])
    assert iou(masks[1], truth[0]) > 0.93
    assert iou(masks[0], truth[1]) > 0.93
    assert not masks.all(axis=0).any()
    large = np.repeat(np.repeat(SCENE, 5, axis=0), 5, axis=1)
    grown = segmenter.segment(large, ["a red block", "a blue block"])
    assert grown.shape == (2, 320, 320)
    assert iou(grown[0, 2::5, 2::5], truth[0]) > 0.9


def test_touching_blocks_are_divided_at_their_edge() -> None:
    picture = painted((10, 20, 32, 44, (200, 30, 30)), (32, 20, 54, 44, (245, 220, 45)))
    masks = ColourSegmenter(ColourSegmenterConfig()).segment(picture, ["a red block", "a yellow block"])
    truth = np.zeros((64, 64), bool)
    truth[20:44, 10:32] = True
    assert iou(masks[0], truth) > 0.9


def test_one_subject_without_a_colour_is_what_is_left() -> None:
    masks = ColourSegmenter(ColourSegmenterConfig()).segment(SCENE, ["a thing", "a red block"])
    truth = np.zeros((64, 64), bool)
    truth[20:50, 34:56] = True
    assert iou(masks[0], truth) > 0.85


def test_what_is_not_there_goes_with_its_identity_and_is_counted() -> None:
    record = {
        "key": "a", "target": SCENE, "captions": ["a red block", "a green block"], "identities": ["r", "g"],
        "per_subject": ["identities"],
    }  # fmt: skip
    segmenter = ColourSegmenter(ColourSegmenterConfig())
    (made,) = segmenter.annotate_or_reject([record], RNG)
    assert (made["captions"], made["identities"]) == (["a red block"], ["r"])
    assert made["counts"] == {"subjects not found": 1}
    (gone,) = segmenter.annotate_or_reject([{**record, "captions": ["a green block", "a pink one"]}], RNG)
    assert gone["rejected"] == "no subject found"
    assert list(segmenter.annotate([{**record, "captions": ["a green block", "a pink one"]}], RNG)) == []


def test_masks_that_are_there_are_kept() -> None:
    masks = np.ones((1, 64, 64), bool)
    record = {"key": "a", "target": SCENE, "captions": ["a red block"], "masks": masks}
    (made,) = ColourSegmenter(ColourSegmenterConfig()).annotate([record], RNG)
    assert made["masks"] is masks


def test_lab_of_known_colours() -> None:
    found = lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]]))
    assert found[0] == pytest.approx([100, 0, 0], abs=0.1)
    assert found[1] == pytest.approx([0, 0, 0], abs=0.1)
    assert found[2] == pytest.approx([53.2, 80.1, 67.2], abs=0.3)


@pytest.mark.parametrize("yaw", [30.0, 70.0])
@pytest.mark.parametrize(("erosion", "off", "size_off"), [(0, 0.06, 0.09), (1, 0.12, 0.25)])
def test_an_upright_box_is_the_one_that_stands_there(yaw: float, erosion: int, off: float, size_off: float) -> None:
    """A pixel on the box's top is 0.11 m deep here, so that a mask eroded by one loses about that much."""
    record, truth = cube_record(yaw)
    (made,) = BoxFitter(BoxFitterConfig(erosion=erosion)).annotate([record], RNG)
    (box,) = made["boxes_3d"]
    assert np.linalg.norm(np.array(box["center"]) - truth["center"]) < off
    assert sorted(box["size"]) == pytest.approx(sorted(truth["size"]), abs=size_off)
    assert made["boxes_xyxy"].shape == (1, 4)


@pytest.mark.parametrize("method", ["minimal", "pca"])
def test_other_boxes_hold_the_visible_points(method: Any) -> None:
    record, _ = cube_record()
    (made,) = BoxFitter(BoxFitterConfig(method=method, erosion=0, isolation=50)).annotate([record], RNG)
    box = made["boxes_3d"][0]
    points = unproject(record["depth"].astype(float), CUBE_CAMERA)[record["masks"][0]]
    rx, ry, rz = np.radians(box["rotation"])
    turn = (
        np.array([[np.cos(rz), -np.sin(rz), 0], [np.sin(rz), np.cos(rz), 0], [0, 0, 1]])
        @ np.array([[np.cos(ry), 0, np.sin(ry)], [0, 1, 0], [-np.sin(ry), 0, np.cos(ry)]])
        @ np.array([[1, 0, 0], [0, np.cos(rx), -np.sin(rx)], [0, np.sin(rx), np.cos(rx)]])
    )
    inside = np.abs((points - box["center"]) @ turn) <= np.array(box["size"]) / 2 + 1e-6
    assert inside.all()


@pytest.mark.parametrize(("change", "what"), [({"depth": None}, "no depth"), ({"depth_kind": "relative"}, "relative")])
def test_depth_without_metres_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=f"{what}.*expected metric depth"):
        list(BoxFitter(BoxFitterConfig()).annotate([{**cube_record()[0], **change}], RNG))


def test_boxes_that_are_there_are_kept_and_missing_ones_fitted() -> None:
    record, _ = cube_record()
    two = {**record, "masks": np.repeat(record["masks"], 2, axis=0), "captions": ["a box", "a box"]}
    known = {"center": [0.0, 0.0, 9.0], "size": [1.0, 1.0, 1.0], "rotation": [0.0, 0.0, 0.0]}
    fitter = BoxFitter(BoxFitterConfig())
    flat = np.array([[1.0, 2, 3, 4]] * 2)
    (made,) = fitter.annotate([{**two, "boxes_3d": [known, None], "boxes_xyxy": flat}], RNG)
    (anew,) = fitter.annotate([two], RNG)
    assert made["boxes_3d"] == [known, anew["boxes_3d"][1]]
    assert made["boxes_xyxy"] is flat
    (whole,) = fitter.annotate([{**two, "boxes_3d": [known, known], "depth": None}], RNG)
    assert whole["boxes_3d"] == [known, known], "no depth is asked for where nothing is to be fitted"


@pytest.mark.parametrize(("pixels", "fitted"), [(20, True), (19, False)])
def test_a_subject_with_few_points_has_no_box(pixels: int, fitted: bool) -> None:
    record, _ = cube_record()
    rows, columns = np.nonzero(record["masks"][0])
    order = np.argsort((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2, kind="stable")[:pixels]
    mask = np.zeros_like(record["masks"])
    mask[0, rows[order], columns[order]] = True
    config = BoxFitterConfig(erosion=0, min_points=20)
    (made,) = BoxFitter(config).annotate([{**record, "masks": mask}], RNG)
    assert (made["boxes_3d"][0] is not None) == fitted
    assert made["counts"] == {"subjects without 3D box": int(not fitted)}


def test_outliers_go_and_the_ground_is_found() -> None:
    rng = np.random.default_rng(0)
    cloud = np.concatenate([rng.random((200, 3)), [[9.0, 9, 9]]])
    assert len(without_outliers(cloud, 8, 6.0)) >= 190
    assert without_outliers(cloud, 8, 6.0).max() < 2
    record, _ = cube_record()
    ground = find_ground(unproject(record["depth"].astype(float), CUBE_CAMERA), record["masks"])
    assert isinstance(ground, Ground)
    assert ground.height == pytest.approx(1.5, abs=0.02)
    assert find_ground(np.zeros((8, 8, 3)), np.zeros((1, 8, 8), bool)) is None
