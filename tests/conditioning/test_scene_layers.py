"""A scene through its encoders: errors in the scene's name, and what a plugin may not give."""

from __future__ import annotations

import numpy as np
import pytest

from sigma_controls.plugin import sigma_register_controls
from sigma_framework import Canvas, ControlLayer, PluginError, Scene, SceneError, Subject
from sigma_framework.conditioning import compose_scene, encode_subjects, identity_blocks
from sigma_framework.scene import ResolvedScene

CONTROLS = {spec.name: spec for spec in sigma_register_controls()}
ENCODERS = {name: spec.load_factory()(spec.config()) for name, spec in CONTROLS.items()}
IMAGE = np.full((20, 20, 3), 90, np.uint8)
MASK = np.pad(np.ones((8, 8), np.bool_), ((8, 48), (8, 48)))
BOX3D = {"type": "box3d", "center": [0, 0, 4.0], "size": [1, 1, 1]}


def resolve(*controls: dict[str, object]) -> ResolvedScene:
    subjects = tuple(Subject(image=IMAGE, control=control) for control in controls)
    return Scene(subjects=subjects, size=(64, 64), prompt="x").resolve(CONTROLS, 16)


def test_granularities_mix_in_one_image() -> None:
    depth = np.full((64, 64), 3.0, np.float32)
    resolved = resolve(
        {"type": "mask", "file": MASK},
        {"type": "depth", "mask": MASK[::-1], "depth": depth},
        {"type": "box2d", "xyxy": [40, 0, 60, 20]},
        BOX3D,
    )
    composed = compose_scene(resolved, ENCODERS)
    assert set(np.unique(composed.spatial[:, :, 0])) == {0, 10, 20, 30, 40}
    assert not composed.spatial[10, 50, 2] and composed.spatial[50, 10, 2] and composed.spatial[32, 32, 2]
    assert [block.shape for block in identity_blocks(resolved, 32)] == [(32, 32, 3)] * 4


def test_depth_of_unclear_scale_beside_a_3d_box_is_an_error() -> None:
    grey = np.full((64, 64), 120, np.uint8)
    with pytest.raises(SceneError, match=r"subjects\[0\].*disparity.*near and far"):
        compose_scene(resolve({"type": "depth", "mask": MASK, "depth": grey}, BOX3D), ENCODERS)
    limits = {"type": "depth", "mask": MASK, "depth": grey, "near": 2.0, "far": 5.0}
    assert compose_scene(resolve(limits, BOX3D), ENCODERS).structure_range


def test_every_geometry_that_makes_no_sense_is_named() -> None:
    outside = {"type": "box2d", "xyxy": [100, 100, 120, 120]}
    nan = {"type": "depth", "mask": MASK, "depth": np.full((64, 64), np.nan, np.float32)}
    behind = {**BOX3D, "center": [0, 0, -4.0]}
    with pytest.raises(SceneError) as caught:
        encode_subjects(resolve(outside, BOX3D, nan, behind), ENCODERS)
    found = {problem.where: problem.what for problem in caught.value.problems}
    assert list(found) == ["subjects[0].control", "subjects[2].control", "subjects[3].control"]
    assert "outside the image" in found["subjects[0].control"]
    assert "NaN" in found["subjects[2].control"] and "behind the camera" in found["subjects[3].control"]


@pytest.mark.parametrize(
    "result", [None, ControlLayer(region=np.ones((3, 64), np.bool_)), ControlLayer(region=np.ones((64, 64), np.uint8))]
)
def test_an_encoder_that_gives_something_else_is_the_plugins_fault(result: object) -> None:
    class Wrong:
        def encode(self, geometry: object, canvas: Canvas) -> object:
            return result

    with pytest.raises(PluginError, match='control "box3d": encode gave'):
        encode_subjects(resolve(BOX3D), {"box3d": Wrong()})
