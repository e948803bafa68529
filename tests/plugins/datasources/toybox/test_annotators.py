"""The toybox as stages of a build: told scenes, identities and depth that belong to them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_datasources import plugin
from sigma_datasources.toybox.annotator_config import ToyboxImageConfig, ToyboxOracleDepthConfig, ToyboxReposerConfig
from sigma_datasources.toybox.annotators import ToyboxImage, ToyboxOracleDepth, ToyboxReposer
from sigma_datasources.toybox.source import annotate
from sigma_datasources.toybox.told_scenery import scenery_of
from sigma_framework import DataError
from sigma_framework.testing import AnnotatorConformance

SPECS = {spec.name: spec for spec in plugin.sigma_register_annotators()}
TOLD = {
    "key": "a",
    "captions": ["a red cube", "an orange striped sphere", "a navy cone"],
    "prompt_background": "a white tiled floor and a blue sky in bright warm light",
}
(DRAWN,) = ToyboxImage(ToyboxImageConfig(image_size=64)).annotate([TOLD], np.random.default_rng(3))


class TestToyboxImage(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["toybox_image"]
    options: ClassVar[dict[str, Any]] = {"image_size": 64}
    records: ClassVar[Any] = (TOLD,)


class TestToyboxReposer(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["toybox_reposer"]
    options: ClassVar[dict[str, Any]] = {"identity_size": 32}
    records: ClassVar[Any] = (DRAWN,)


class TestToyboxOracleDepth(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["toybox_oracle_depth"]
    records: ClassVar[Any] = (DRAWN,)


def test_the_scene_is_the_one_that_was_told() -> None:
    scenery = scenery_of(DRAWN["toybox"])
    assert [look.caption for look in scenery.looks] == TOLD["captions"]
    assert (scenery.place.floor_kind, scenery.place.backdrop) == ("tiled", "sky")
    assert scenery.place.floor == (0.88, 0.88, 0.87)
    assert scenery.place.light.tint == (1.07, 0.99, 0.86)
    assert scenery.place.light.direct == pytest.approx(0.82), "bright"
    again = scenery_of(DRAWN["toybox"])
    assert (again.seen.owner == scenery.seen.owner).all()


@pytest.mark.parametrize("caption", ["a cup", "a red teapot", "a glass cube"])
def test_what_the_toybox_cannot_draw_is_told(caption: str) -> None:
    stage = ToyboxImage(ToyboxImageConfig(image_size=64))
    with pytest.raises(DataError, match=r"cannot draw.*it draws cube"):
        list(stage.annotate([{**TOLD, "captions": [caption]}], np.random.default_rng(0)))


def test_identities_are_those_of_the_subjects_that_are_left() -> None:
    left = {**DRAWN, "subject_numbers": [2, 0]}
    (made,) = ToyboxReposer(ToyboxReposerConfig(identity_size=48)).annotate([left], np.random.default_rng(0))
    navy, red = made["identities"]
    middle = slice(16, 32)
    assert red[middle, middle].reshape(-1, 3).mean(axis=0).argmax() == 0
    assert navy[middle, middle].reshape(-1, 3).mean(axis=0).argmax() == 2
    assert (red[0] == 255).all()
    assert "identities" in made["per_subject"]


def test_depth_is_the_worlds() -> None:
    (made,) = ToyboxOracleDepth(ToyboxOracleDepthConfig()).annotate([DRAWN], np.random.default_rng(0))
    scenery = scenery_of(DRAWN["toybox"])
    for subject in annotate(scenery):
        assert subject.depth is not None
        assert (made["depth"][subject.mask] == subject.depth[subject.mask]).all()
    bottom = made["depth"][-1, 0]
    view = scenery.view
    slope = (63.5 - view.camera.cy) / view.camera.fy
    assert bottom == pytest.approx(view.altitude / (slope * np.cos(view.pitch) + np.sin(view.pitch)), rel=1e-5)
    assert made["camera"]["fx"] == view.camera.fx
