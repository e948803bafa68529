"""The files that a scene names: which are opened, how they are read, and how they are written again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_controls.plugin import sigma_register_controls
from sigma_framework import Scene, SceneError, Subject
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


def resolve(folder: Path, control: dict[str, object], image: str = "mug.png", **keys: object) -> ResolvedScene:
    save(folder / "mug.png", RED)
    document = {"version": 1, "size": [64, 48], "prompt": "a table", "subjects": [{"image": image, "control": control}]}
    return Scene.load({**document, **keys}, folder).resolve(CONTROLS, 16)


def fault(folder: Path, control: dict[str, object] | None = None, **keys: object) -> str:
    with pytest.raises(SceneError) as caught:
        resolve(folder, control or {"type": "box2d", "xyxy": [0, 0, 32, 32]}, **keys)
    assert len(caught.value.problems) == 1, str(caught.value)
    return str(caught.value.problems[0])


def test_mask_becomes_an_array(tmp_path: Path) -> None:
    save(tmp_path / "mask.png", half_mask())
    resolved = resolve(tmp_path, {"type": "mask", "file": "mask.png"})
    assert np.array_equal(resolved.subjects[0].geometry.file, half_mask() > 0)
    assert np.array_equal(resolved.subjects[0].identity, RED)
    assert resolved.canvas.size_hw == (48, 64)


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    save(path, noise)
    path.write_bytes(path.read_bytes()[:4000])


def bomb(path: Path) -> None:
    Image.new("1", (10_000, 6_000)).save(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
        (lambda path: path.write_bytes(b"<html><body>404"), "not an image (starts with '<html>"),
        (lambda path: path.write_bytes(b"GIF89a"), "is GIF; allowed: PNG, JPEG, WEBP"),
        (lambda path: path.write_bytes(b"%PDF-1.4"), "is PDF"),
        (truncated, "cut off or damaged"),
        (bomb, "megapixels"),
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "not a regular file"),
        (lambda path: None, "file not found"),
        (lambda path: save(path, RED[:1, :5]), "5x1 pixels"),
        (lambda path: save(path, np.zeros((9, 9, 4), np.uint8)), "fully transparent"),
        (lambda path: path.symlink_to("/etc/hostname"), "leaves the folder"),
    ],
)
def test_one_clear_message_per_bad_picture(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "bad.png")
    assert said in fault(tmp_path, image="bad.png")


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png"])
def test_paths_may_not_leave_the_folder(tmp_path: Path, path: str) -> None:
    save(tmp_path / "secret.png", half_mask())
    inner = tmp_path / "inner"
    (inner / "a").mkdir(parents=True)
    assert "leaves the folder" in fault(inner, image=path)
    assert "leaves the folder" in fault(inner, {"type": "mask", "file": path})


def test_an_absolute_path_is_the_callers_alone(tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", half_mask())
    inner = tmp_path / "inner"
    inner.mkdir()
    assert "absolute path" in fault(inner, {"type": "mask", "file": str(mask)})
    assert resolve(inner, {"type": "mask", "file": mask}).subjects[0].geometry.file.any()
    scene = Scene(
        subjects=(Subject(image=str(save(inner / "a.png", RED)), control={"type": "mask", "file": str(mask)}),),
        size=(64, 48),
    )
    assert scene.resolve(CONTROLS, 16).subjects[0].geometry.file.any()


def test_a_missing_file_gets_the_nearest_name(tmp_path: Path) -> None:
    assert "did you mean 'mug.png'?" in fault(tmp_path, image="mugg.png")


def test_a_written_scene_without_its_inputs_says_what_is_missing(tmp_path: Path) -> None:
    save(tmp_path / "mug.png", RED)
    subject = {"image": "mug.png", "control": {"type": "box2d", "xyxy": [0, 0, 32, 32]}}
    Scene.load({"subjects": [subject]}, base=tmp_path).save(tmp_path / "run" / "scene.yaml")
    alone = tmp_path / "alone.yaml"
    alone.write_bytes((tmp_path / "run" / "scene.yaml").read_bytes())
    with pytest.raises(SceneError, match="lies in inputs/ beside it; keep the two together"):
        Scene.load_resolved(alone, CONTROLS, 16)


def test_identity_pictures_of_every_kind(tmp_path: Path) -> None:
    control = {"type": "box2d", "xyxy": [0, 0, 32, 32]}
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    Image.fromarray(RED).save(tmp_path / "turned.jpg", exif=exif)
    assert resolve(tmp_path, control, "turned.jpg").subjects[0].identity.shape == (30, 20, 3)
    save(tmp_path / "deep.png", np.full((10, 10), 65535 // 2, np.uint16))
    assert np.unique(resolve(tmp_path, control, "deep.png").subjects[0].identity).tolist() == [127]
    Image.fromarray(RED).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert abs(resolve(tmp_path, control, "cmyk.jpg").subjects[0].identity.astype(int) - RED).max() < 12
    Image.fromarray(RED).quantize(4).save(tmp_path / "palette.png")
    assert abs(resolve(tmp_path, control, "palette.png").subjects[0].identity.astype(int) - RED).max() < 12
    cut = np.dstack([RED, np.zeros((20, 30), np.uint8)])
    cut[5:10, 5:10, 3] = 255
    save(tmp_path / "cut.png", cut)
    subject = resolve(tmp_path, control, "cut.png").subjects[0]
    assert subject.identity[0, 0].tolist() == [255] * 3 and subject.identity[6, 6].tolist() == RED[0, 0].tolist()
    assert subject.cutout is not None and subject.cutout.sum() == 25


def test_an_animated_picture_gives_its_first_frame_and_a_warning(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    resolved = resolve(tmp_path, {"type": "box2d", "xyxy": [0, 0, 32, 32]}, "moving.webp")
    assert resolved.subjects[0].identity[0, 0].tolist() == [255, 0, 0]
    assert "frame 1 of 2" in resolved.warnings[0]


def mask_variants() -> dict[str, Image.Image]:
    grey = half_mask()
    labels = Image.new("P", (64, 48))
    labels.putdata((grey > 0).astype(int).ravel().tolist())
    labels.putpalette([0, 0, 0, 128, 0, 0])
    alpha = np.dstack([np.full((48, 64, 3), 90, np.uint8), grey])
    return {
        "grey": Image.fromarray(grey),
        "zero and one": Image.fromarray(grey // 255),
        "one bit": Image.fromarray(grey).convert("1"),
        "rgb": Image.fromarray(grey).convert("RGB"),
        "one colour": Image.fromarray(np.dstack([grey, grey // 2, grey // 5])),
        "palette": labels,
        "grey palette": Image.fromarray(grey).convert("P"),
        "alpha": Image.fromarray(alpha),
        "16 bits": Image.fromarray(grey.astype(np.uint16) * 257),
    }


@pytest.mark.parametrize("kind", mask_variants())
def test_masks_of_every_kind(tmp_path: Path, kind: str) -> None:
    mask_variants()[kind].save(tmp_path / "mask.png")
    resolved = resolve(tmp_path, {"type": "mask", "file": "mask.png"})
    assert np.array_equal(resolved.subjects[0].geometry.file, half_mask() > 0)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((48, 64), np.uint8), "has no pixels"),
        (half_mask(32, 32), "32x32 pixels, the scene is 64x48"),
        (np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), "is not a mask"),
    ],
)
def test_bad_masks(tmp_path: Path, pixels: np.ndarray, said: str) -> None:
    save(tmp_path / "mask.png", pixels)
    assert said in fault(tmp_path, {"type": "mask", "file": "mask.png"})


def test_smooth_and_full_masks_are_warned_of(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 48, axis=0)
    save(tmp_path / "mask.png", ramp)
    resolved = resolve(tmp_path, {"type": "mask", "file": "mask.png"})
    assert "grey levels" in resolved.warnings[0]
    assert np.array_equal(resolved.subjects[0].geometry.file, ramp >= 128)
    save(tmp_path / "mask.png", np.full((48, 64), 255, np.uint8))
    assert "covers the whole" in resolve(tmp_path, {"type": "mask", "file": "mask.png"}).warnings[0]


@pytest.mark.parametrize(
    ("name", "values", "kind", "expected"),
    [
        ("d.png", np.full((48, 64), 200, np.uint8), None, ("disparity", 200.0)),
        ("d.png", np.full((48, 64), 1500, np.uint16), None, ("metric", 1.5)),
        ("d.npy", np.full((48, 64), 2.5, np.float32), None, ("metric", 2.5)),
        ("d.tif", np.full((48, 64), 2.5, np.float32), None, ("metric", 2.5)),
        ("d.npy", np.full((48, 64), 2.5, np.float64), "disparity", ("disparity", 2.5)),
        ("d.png", np.full((48, 64, 3), 7, np.uint8), "metric_m", ("metric", 7.0)),
        ("d.npy", np.full((48, 64), 2500, np.int32), "metric_mm", ("metric", 2.5)),
    ],
)
def test_depth_kinds(
    tmp_path: Path, name: str, values: np.ndarray, kind: str | None, expected: tuple[str, float]
) -> None:
    save(tmp_path / "mask.png", half_mask())
    np.save(tmp_path / name, values) if name.endswith("npy") else save(tmp_path / name, values)
    control = {"type": "depth", "mask": "mask.png", "depth": name} | ({"depth_kind": kind} if kind else {})
    raster = resolve(tmp_path, control).subjects[0].geometry.depth
    assert (raster.kind, float(raster.values[0, 0])) == expected and raster.values.dtype == np.float32


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: np.save(path, np.full((48, 64), 3, np.int32)), "unclear what int32"),
        (lambda path: np.save(path, np.array([[{}]], dtype=object), allow_pickle=True), "Python objects"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00broken"), "damaged .npy"),
        (lambda path: np.save(path, np.zeros((3,), np.float32)), "expected (H, W)"),
        (lambda path: save(path.with_name("d.png"), RED).rename(path), "not a depth map"),
    ],
)
def test_bad_depth(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    save(tmp_path / "mask.png", half_mask())
    make(tmp_path / "d.npy")
    assert said in fault(tmp_path, {"type": "depth", "mask": "mask.png", "depth": "d.npy"})


def test_a_cut_or_lying_npy_is_found_without_allocating(tmp_path: Path) -> None:
    save(tmp_path / "mask.png", half_mask())
    control = {"type": "depth", "mask": "mask.png", "depth": "d.npy"}
    np.save(tmp_path / "d.npy", np.ones((48, 64), np.float32))
    content = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(content[:-9])
    assert "cut off" in fault(tmp_path, control)
    (tmp_path / "d.npy").write_bytes(
        content.replace(b"(48, 64), }", b"(99999, 99999), }"[:17]).replace(b"      \n", b"\n", 1)
    )
    assert "megapixels" in fault(tmp_path, control)


def test_document_and_control_problems_come_together(tmp_path: Path) -> None:
    save(tmp_path / "mug.png", RED)
    save(tmp_path / "small.png", half_mask(16, 16))
    good = {"image": "mug.png", "control": {"type": "box2d", "xyxy": [0, 0, 32, 32]}}
    subjects = [
        {**good, "captoin": "x", "control": {"type": "box2d", "xyxy": [9, 9, 3, 3]}},
        {**good, "control": {"type": "maskk"}},
        {**good, "control": {"type": "mask", "file": "small.png", "feather": 3}},
        {**good, "image": "none.png", "name": "subject1"},
    ]
    with pytest.raises(SceneError) as caught:
        Scene.load_resolved({"size": [60, 48], "subjects": subjects}, CONTROLS, 16, base=tmp_path)
    found = {problem.where: str(problem) for problem in caught.value.problems}
    assert set(found) == {
        "size", "subjects[0].captoin", "subjects[0].control", "subjects[1].control.type", "subjects[2].control.feather",
        "subjects[3].image", "subjects[3].name",
    }  # fmt: skip
    order = [problem.where.partition(".")[0] for problem in caught.value.problems]
    assert order == sorted(order, key=["size", *(f"subjects[{index}]" for index in range(4))].index)
    assert "48 or 64" in found["size"] and "did you mean 'mask'?" in found["subjects[1].control.type"]


def test_size_follows_the_photograph_or_covers(tmp_path: Path) -> None:
    photo = np.random.default_rng(1).integers(0, 255, (50, 75, 3), np.uint8)
    save(tmp_path / "photo.png", photo)
    mask = np.zeros((50, 75), np.uint8)
    mask[10:40, 20:40] = 255
    save(tmp_path / "mask.png", mask)
    control = {"type": "mask", "file": "mask.png"}
    own = resolve(tmp_path, control, background="photo.png", size=None)
    assert own.canvas.size_hw == (48, 64)
    assert np.array_equal(own.background, photo[1:49, 5:69])
    assert np.array_equal(
        own.subjects[0].geometry.file, mask[1:49, 5:69] > 0
    )  # a mask of the photograph's size follows it
    covered = resolve(tmp_path, control, background="photo.png", size=[128, 64])
    assert covered.background is not None and covered.background.shape == (64, 128, 3)
    assert covered.subjects[0].geometry.file.shape == (64, 128)


def test_default_size_and_camera(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, {"type": "box2d", "xyxy": [0, 0, 32, 32]}, size=None, camera={"fov_y": 90})
    assert resolved.canvas.size_hw == (512, 512)
    assert resolved.canvas.camera.fx == pytest.approx(256) and resolved.canvas.camera.cx == 256
