"""Saving a scene and copying its inputs: what is written reads back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sigma_controls.plugin import sigma_register_controls
from sigma_framework import DepthRaster, Scene, SceneError, Subject
from sigma_framework.scene import ResolvedScene

CONTROLS = {spec.name: spec for spec in sigma_register_controls()}
RED = np.full((20, 30, 3), (200, 10, 10), np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def half_mask(height: int = 48, width: int = 64) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


def full_scene() -> Scene:
    rng = np.random.default_rng(3)
    mask = half_mask() > 0
    depth = DepthRaster(values=rng.uniform(1, 5, (48, 64)).astype(np.float32), kind="disparity")
    picture = Image.fromarray(np.dstack([RED, np.full((20, 30), 128, np.uint8)]))
    subjects = (
        Subject(name="a", image=picture, caption="a mug", control={"type": "mask", "file": mask}),
        Subject(name="b", image=RED, control={"type": "depth", "mask": mask, "depth": depth, "near": 1.0, "far": 2.0}),
        Subject(name="c", image=RED, control={"type": "box2d", "xyxy": (1.5, 2, 40, 40)}),
    )
    structure = rng.uniform(1, 5, (48, 64)).astype(np.float32)
    return Scene(subjects=subjects, prompt="x", size=(64, 48), structure=structure, structure_range=(0.1, 1.0))


def assert_same(first: ResolvedScene, second: ResolvedScene) -> None:
    for one, other in zip(first.subjects, second.subjects, strict=True):
        assert np.array_equal(one.identity, other.identity)
    assert np.array_equal(first.subjects[0].geometry.file, second.subjects[0].geometry.file)
    one, other = first.subjects[1].geometry.depth, second.subjects[1].geometry.depth
    assert one.kind == other.kind and np.array_equal(one.values, other.values)
    assert isinstance(first.structure, DepthRaster) and isinstance(second.structure, DepthRaster)
    assert np.array_equal(first.structure.values, second.structure.values)


@pytest.mark.parametrize("name", ["scene.yaml", "scene.json"])
def test_saved_arrays_read_back_the_same(tmp_path: Path, name: str) -> None:
    scene = full_scene()
    with pytest.raises(SceneError, match="an array"):
        scene.to_document()
    scene.save(tmp_path / "out" / name)
    (tmp_path / "out").rename(tmp_path / "moved")  # no path of this machine is in it
    assert_same(scene.resolve(CONTROLS, 16), Scene.load(tmp_path / "moved" / name).resolve(CONTROLS, 16))


def test_an_output_picture_is_a_scene_again(tmp_path: Path) -> None:
    scene = full_scene()
    copied = scene.copy_inputs(tmp_path)
    text = PngInfo()
    text.add_text("sigma.scene", json.dumps(copied.to_document()))
    Image.new("RGB", (64, 48)).save(tmp_path / "0000.png", pnginfo=text)
    assert str(tmp_path) not in json.dumps(copied.to_document())
    assert_same(scene.resolve(CONTROLS, 16), Scene.load(tmp_path / "0000.png").resolve(CONTROLS, 16))
    save(tmp_path / "plain.png", RED)
    with pytest.raises(SceneError, match="holds no scene"):
        Scene.load(tmp_path / "plain.png")


def test_copied_inputs_are_named_by_content_and_only_pictures(tmp_path: Path) -> None:
    save(tmp_path / "mug.png", RED)
    (tmp_path / "notes.png").write_text("secret")
    control = {"type": "box2d", "xyxy": [0, 0, 32, 32]}
    scene = Scene.load({"subjects": [{"image": "mug.png", "control": control}] * 2}, tmp_path)
    copied = scene.copy_inputs(tmp_path / "run")
    assert len(list((tmp_path / "run" / "inputs").iterdir())) == 1
    assert copied.copy_inputs(tmp_path / "run").to_document() == copied.to_document()
    bad = replace(scene, background="notes.png")
    with pytest.raises(SceneError, match="not a picture"):
        bad.copy_inputs(tmp_path / "run")


def test_with_background_takes_the_callers_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scene").mkdir()
    save(tmp_path / "scene" / "mug.png", RED)
    save(tmp_path / "photo.png", np.zeros((48, 64, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    document = {"subjects": [{"image": "mug.png", "control": {"type": "box2d", "xyxy": [0, 0, 32, 32]}}]}
    scene = Scene.load(document, "scene").with_background("photo.png")
    assert scene.resolve(CONTROLS, 16).background is not None
