"""Small files in the benchmarks' own layouts become scenes that resolve; wrong ones are told key by key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sigma_controls.plugin import sigma_register_controls
from sigma_framework import DataError, Scene
from sigma_framework.cli import guarded
from sigma_framework.data_cli import data_app
from sigma_framework.scene_import import ImportReport, import_scenes

SPECS = {spec.name: spec for spec in sigma_register_controls()}


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def document(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def imported(name: str, path: Path, tmp_path: Path, **options: Any) -> tuple[ImportReport, dict[str, Any]]:
    """The report, and every scene by the name of its file, as it resolves."""
    out = tmp_path / "out"
    report = import_scenes(name, path, out, **options)
    scenes = {file.stem: Scene.load(file).resolve(SPECS, 16) for file in sorted(out.glob("*.yaml"))}
    assert len(scenes) == report.scenes and not list(tmp_path.glob(".out*"))
    return report, scenes


def problems(name: str, path: Path, tmp_path: Path, **options: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        import_scenes(name, path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    assert str(path) in caught.value.message
    return [str(problem) for problem in caught.value.problems]


def segment_info(folder: Path, **changes: Any) -> Path:
    instances = [
        {"image": "crab/04_crab.png", "bbox": [351, 121, 690, 509], "label": "crab", "phrase": "A crab"},
        {"image": "crab/57_leather handbag.png", "bbox": [112, 284, 443, 600], "label": "bag", "mask": "crab/bag.png"},
    ]
    picture(folder / "crab/04_crab.png")
    picture(folder / "crab/57_leather handbag.png", "blue")
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 10:30] = 255
    Image.fromarray(mask).save(folder / "crab/bag.png")
    record = {"caption": "A crab holds a bag.", "width": 768, "layout_image": "crab/layout.png", "instances": instances}
    return document(folder / "segment_info.json", [{**record, **changes}])


def test_contextgen(tmp_path: Path) -> None:
    report, scenes = imported("contextgen", segment_info(tmp_path / "in"), tmp_path)
    scene = scenes["0000"]
    assert (scene.canvas.width, scene.canvas.height, scene.scene.prompt_kind) == (768, 768, "full")
    assert scene.scene.prompt == "A crab holds a bag." and report.notes == ()
    assert [(one.name, one.caption, one.geometry.xyxy) for one in scene.subjects] == [
        ("crab", "A crab", (351, 121, 690, 509)),
        ("bag", "bag", (112, 284, 443, 600)),
    ]
    assert scene.subjects[0].cutout is None and scene.subjects[1].cutout.sum() == 15 * 20


def test_contextgen_tells_every_problem_with_its_key(tmp_path: Path) -> None:
    instances = [
        {"image": "crab/04_crab.png", "bbox": [10, 10, 5, 20]},
        {"image": "crab/gone.png", "bbox": [0, 0, 50, 50]},
        {"image": "../../secret.png", "bbox": [0, 0, 50, 50]},
        {"image": "crab/04_crab.png", "bbox": [800, 0, 900, 50]},
        {"bbox": [0, 0, 1], "image": 7},
        {"image": "crab/57_leather handbag.png", "bbox": [0, 0, 50, 50], "mask": "crab/small.png"},
        "crab.png",
    ]
    folder = tmp_path / "in"
    path = segment_info(folder, instances=instances)
    Image.new("L", (3, 3), 255).save(folder / "crab/small.png")
    said = "\n".join(problems("contextgen", path, tmp_path))
    for wanted in (
        r"\[0\]\.instances\[0\]\.bbox: .*expected x1 greater",
        r'\[0\]\.instances\[1\]: picture not found: "crab/gone.png"; --images',
        r"\[0\]\.instances\[2\]: .*leaves the folder",
        r"\[0\]\.instances\[3\]\.bbox: .*outside the picture of 768 by 768",
        r"\[0\]\.instances\[4\]\.bbox: ",
        r"\[0\]\.instances\[4\]\.image: ",
        r"\[0\]\.instances\[5\]: mask of 3x3 pixels, its picture is 40x30",
        r"\[0\]\.instances\[6\]: .*expected a map",
    ):
        assert re.search(wanted, said), f"{wanted} not in\n{said}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 0}, r"\[0\]\.width: "),
        ({"caption": 3}, r"\[0\]\.caption: "),
        ({"instances": []}, r"\[0\]\.instances: found a list of 0|\[0\]\.instances: found \[\]"),
        ({"instances": None}, r"\[0\]\.instances: found nothing"),
    ],
)
def test_contextgen_checks_its_records(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    found = problems("contextgen", segment_info(tmp_path / "in", **changes), tmp_path)
    assert re.search(said, "\n".join(found)), found


def lamicbench(folder: Path, with_boxes: bool) -> Path:
    references = [{"image_path": "dog/01.jpg", "phrase": "a dog"}, {"image_path": "dog/02.jpg", "phrase": "a dog"}]
    for number, one in enumerate(references):
        picture(folder / "reference_images" / str(one["image_path"]))
        if with_boxes:
            one["bbox"] = [0.5 * number, 0.25, 0.5 * number + 0.5, 0.75]  # type: ignore[assignment]
    mask = np.zeros((30, 40), np.uint8)
    mask[:10] = 255
    (folder / "reference_masks/dog").mkdir(parents=True)
    Image.fromarray(mask).save(folder / "reference_masks/dog/01_mask.png")
    return document(folder / "lamicbench.json", [{"index": 17, "prompt": "Two dogs play.", "references": references}])


def test_lamicbench(tmp_path: Path) -> None:
    report, scenes = imported("lamicbench", lamicbench(tmp_path / "in", True), tmp_path)
    first, second = scenes["0017"].subjects
    assert (first.name, second.name) == ("a dog 1", "a dog 2")
    assert (first.geometry.xyxy, second.geometry.xyxy) == ((0, 192, 384, 576), (384, 192, 768, 576))
    assert first.cutout.sum() == 10 * 40 and second.cutout is None
    assert report.notes == ("[0].references[1]: no mask of dog/02.jpg; its background stays",)


def test_without_boxes_somebody_must_say_where(tmp_path: Path) -> None:
    path = lamicbench(tmp_path / "in", False)
    said = problems("lamicbench", path, tmp_path)
    assert len(said) == 1, "told once, not for each subject of a benchmark"
    assert said[0].startswith("[0].references[0]: lamicbench has no box for it, nor for 1 more subjects; --places row")
    _, scenes = imported("lamicbench", path, tmp_path, places="row", size=(320, 200))
    scene = scenes["0017"]
    assert (scene.canvas.width, scene.canvas.height) == (320, 192)  # multiples of 16
    assert [one.geometry.xyxy for one in scene.subjects] == [(0, 48, 160, 144), (160, 48, 320, 144)]


def xversebench(folder: Path) -> Path:
    sources = [
        {"image_path": "assets/XVerseBench/human/05_man.jpg", "caption": "a man"},
        {"image_path": "assets/XVerseBench/object/71_anime man.jpg", "caption": "an anime man"},
    ]
    for one in sources:
        picture(folder / one["image_path"])
    words = [[0, "man", "man"], [1, "anime man", "anime man"]]
    modulation = [{"type": "adapter", "src_inputs": sources, "use_words": words}]
    sample = {
        "index": 3,
        "input_images": [],
        "position_delta": [0, -32],
        "prompt": "They meet.",
        "modulation": modulation,
    }
    return document(folder / "eval/tools/XVerseBench_multi.json", [sample])


def test_xversebench_finds_its_pictures_from_the_repository_root(tmp_path: Path) -> None:
    path = xversebench(tmp_path / "in")
    assert "xversebench has no box for it, nor for 1 more" in problems("xversebench", path, tmp_path)[0]
    _, scenes = imported("xversebench", path, tmp_path, places="row")
    scene = scenes["0003"]
    assert (scene.canvas.width, [one.name for one in scene.subjects]) == (768, ["a man", "an anime man"])
    elsewhere = problems("xversebench", path, tmp_path / "other", places="row", images=tmp_path)
    assert all("picture not found" in text for text in elsewhere)


TABLES = """
import os
data_class_dict = {"cat1": "cat", "dog1": "dog", "dog2": "dog", "barn": "barn", "clock": "clock"}
names = ["not", "a", "table"] + os.listdir("/")
subject_combination_boxes = {
    "living_living": [[0., 0.25, 0.5, 0.75], [0.5, 0.25, 1., 0.75]],
    "living_scene": [[0.25, 0.25, 0.75, 0.75], [0., 0., 1., 1.]],
}
pairs = ["{0} beside {1} in rain", "{0} beside {1} in fog"]
subject_combination_prompts = {"living_living": pairs, "living_scene": ["{0} before {1}"]}
"""


def msbench(folder: Path, tables: str = TABLES) -> Path:
    for name in ("living/cat1.jpg", "living/dog1.png", "living/dog2.png", "scene/barn.jpg"):
        picture(folder / "msbench" / name)
    file = folder / "msdiffusion/dataset/prompts/msbench.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tables)
    return folder


def test_msbench_is_every_combination_with_every_prompt(tmp_path: Path) -> None:
    report, scenes = imported("msbench", msbench(tmp_path / "in"), tmp_path)
    assert report.scenes == 3 * 2 + 3 * 1
    assert report.notes == ("msbench: no picture of clock; left out",)
    two = scenes["living_living-dog1-dog2-1"]
    assert two.scene.prompt == "dog beside dog in fog"
    assert [(one.name, one.caption) for one in two.subjects] == [("dog 1", "a dog"), ("dog 2", "a dog")]
    place = scenes["living_scene-cat1-barn-0"]
    assert [one.name for one in place.subjects] == ["barn", "cat"], "what fills the picture is pasted first"
    assert place.subjects[0].geometry.xyxy == (0, 0, 1024, 1024)


def test_msbench_runs_nothing_of_its_file(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = TABLES + f"open({str(marker)!r}, 'w')\nsubject_combination_boxes = __import__('os').environ\n"
    imported("msbench", msbench(tmp_path / "in", text), tmp_path)
    assert not marker.exists()
    assert "subject_combination_prompts: missing" in "\n".join(
        problems(
            "msbench", msbench(tmp_path / "bad", TABLES.replace("subject_combination_prompts", "p")), tmp_path / "b"
        )
    )


def flux3(folder: Path, **changes: Any) -> Path:
    picture(folder / "room.png", "white", (100, 50))
    picture(folder / "dog.png")
    boxes = [
        {
            "id": "dog_1",
            "desc": "a dog",
            "from": "ref_image_1",
            "src_bbox": [0, 0, 1, 0.5],
            "tgt_bbox": [0.5, 0.1, 1, 0.4],
        },
        {"id": "lamp", "desc": "a lamp", "from": "target", "src_bbox": None, "tgt_bbox": [0, 0, 0.5, 0.5]},
        {"id": "cup", "desc": "a cup", "from": "ref_image_0", "src_bbox": [0, 0, 0.5, 0.5], "tgt_bbox": None},
    ]
    whole = {
        "prompt": "a dog in a room",
        "images": ["room.png", "dog.png"],
        "width": 512,
        "height": 256,
        "boxes": boxes,
    }
    return document(folder / "layout.json", {**whole, **changes})


def test_flux3(tmp_path: Path) -> None:
    report, scenes = imported("flux3", flux3(tmp_path / "in"), tmp_path)
    (dog,) = scenes["0000"].subjects
    assert dog.geometry.xyxy == pytest.approx((51.2, 128, 204.8, 256))
    assert dog.identity.shape == (30, 20, 3) and dog.name == "dog_1"
    assert ["a lamp" in report.notes[0], "a cup" in report.notes[1]] == [True, True]


def test_flux3_tells_a_grid_from_fractions_and_a_missing_reference(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "from": "ref_image_0", "tgt_bbox": [0, 0, 500, 500]},
        {"id": "b", "from": "ref_image_9", "tgt_bbox": [0, 0, 1, 1]},
        {"id": "c", "from": "ref_image_0", "src_bbox": [0.5, 0, 0.5, 1], "tgt_bbox": [0, 0, 1, 1]},
    ]
    said = problems("flux3", flux3(tmp_path / "in", boxes=rows), tmp_path)
    assert "boxes[0].tgt_bbox" in said[0] and "divide a 0..1000 grid" in said[0]
    assert 'boxes[1].from: found "ref_image_9", expected target or ref_image_0 to ref_image_1' in said[1]
    assert said[2].startswith("boxes[2].src_bbox")


def coco(folder: Path, **changes: Any) -> Path:
    picture(folder / "000000000139.jpg", "green", (200, 100))
    polygon = [[20, 20, 60, 20, 60, 60]]
    base = {"image_id": 139, "iscrowd": 0}
    annotations = [
        {**base, "id": 1, "category_id": 18, "bbox": [20.0, 20.0, 40.0, 40.0], "segmentation": polygon},
        {
            **base,
            "id": 2,
            "category_id": 17,
            "bbox": [100, 10, 80, 80],
            "segmentation": {"counts": "x", "size": [1, 1]},
        },
        {**base, "id": 3, "category_id": 17, "bbox": [0, 0, 5, 5], "segmentation": []},
        {**base, "id": 4, "category_id": 17, "bbox": [0, 0, 90, 90], "iscrowd": 1},
    ]
    images = [{"id": 139, "file_name": "000000000139.jpg", "width": 200, "height": 100}]
    images.append({"id": 140, "file_name": "none.jpg", "width": 200, "height": 100})
    categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    whole = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
    return document(folder / "instances_val.json", {**whole, **changes})


def test_coco(tmp_path: Path) -> None:
    report, scenes = imported("coco", coco(tmp_path / "in"), tmp_path)
    scene = scenes["000000000139"]
    assert (scene.canvas.width, scene.canvas.height) == (192, 96)
    assert scene.scene.prompt == "a cat, a dog", "the larger box first"
    cat, dog = scene.subjects
    assert cat.geometry.xyxy == pytest.approx((96, 9.6, 172.8, 86.4)) and cat.identity.shape == (80, 80, 3)
    assert 750 < dog.cutout.sum() < 850 and dog.identity.shape == (40, 40, 3), "the triangle of the polygon"
    assert report.notes == ("images[1]: none.jpg has no box of 1% to 40% of it; left out",)


def test_coco_checks_its_references(tmp_path: Path) -> None:
    wrong = [
        {"image_id": 139, "category_id": 99, "bbox": [0, 0, 50, 50]},
        {"image_id": 7, "category_id": 17, "bbox": [0, 0, 50, 50]},
        {"image_id": 139, "category_id": 17, "bbox": [0, 0, 50]},
    ]
    said = "\n".join(problems("coco", coco(tmp_path / "in", annotations=wrong), tmp_path))
    assert "annotations[0].category_id: found 99" in said
    assert "annotations[1].image_id: found 7" in said and "annotations[2].bbox" in said


def test_the_scenes_wait_for_images_as_an_evaluation_lists_them(tmp_path: Path) -> None:
    from sigma_framework.evaluation.generations import place_of, read_manifest

    imported("xversebench", xversebench(tmp_path / "in"), tmp_path, places="row")
    manifest = read_manifest(tmp_path / "out")
    (entry,) = manifest.images
    assert (entry.image, entry.source, entry.key) == ("0003.png", "xversebench", "0003")
    assert place_of(tmp_path / "out", entry.scene).is_file()


def run(*arguments: str | Path) -> int:
    return guarded(data_app, "sigma-data", [str(argument) for argument in arguments])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = flux3(tmp_path / "in")
    assert run("import", "flux3", path, tmp_path / "out", "--size", "256x256") == 0
    printed = capsys.readouterr()
    assert "1 scene written to" in printed.out and "note: boxes[1]" in printed.err
    assert run("import", "flux3", path, tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err
    for arguments, said in (
        (["flux2", path, tmp_path / "o"], "did you mean 'flux3'?"),
        (["flux3", path, tmp_path / "o", "--size", "big"], "expected WIDTHxHEIGHT"),
        (["flux3", path, tmp_path / "o", "--places", "grid"], "given or row"),
        (["flux3", tmp_path / "gone.json", tmp_path / "o"], "cannot be read"),
        (["flux3", tmp_path / "in/dog.png", tmp_path / "o"], "is not JSON"),
        (["msbench", tmp_path / "in", tmp_path / "o"], "expected MS-Diffusion's prompts"),
    ):
        assert run("import", *arguments) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error
    assert not (tmp_path / "o").exists()
