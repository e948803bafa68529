"""What ``sigma-study make`` writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sigma_framework import DataError, Scene, Subject
from sigma_framework.cli import guarded
from sigma_framework.study import make_study
from sigma_framework.study.results import read_results
from sigma_framework.study_cli import study_app


def page_of(study: Path) -> dict[str, Any]:
    text = (study / "page/pairs.js").read_text()
    return json.loads(text.removeprefix("const STUDY = ").rstrip().removesuffix(";"))


def test_the_page_has_pairs_and_does_not_tell_whose_they_are(results: tuple[Path, Path], tmp_path: Path) -> None:
    report = make_study(*results, tmp_path / "study", seed=1)
    assert (report.pairs, report.systems, report.notes) == (4, ("model-q1", "model-q2"), ())
    page, key = page_of(tmp_path / "study"), json.loads((tmp_path / "study/key.json").read_text())
    assert [key["scenes"][pair["id"]] for pair in page["pairs"]] == [f"main/test-{k}" for k in range(4)]
    assert [len(pair["subjects"]) for pair in page["pairs"]] == [2, 3, 2, 3]
    for number, pair in enumerate(page["pairs"]):
        for side, shade in (("first", 20), ("second", 200)):
            picture = Image.open(tmp_path / "study/page" / pair[side])
            assert not picture.info, "metadata says which system made it"
            assert (np.asarray(picture) == shade + number).all()
    everything = b"".join(path.read_bytes() for path in (tmp_path / "study/page").rglob("*") if path.is_file())
    assert b"model-q1" not in everything and b"model-q2" not in everything
    assert b"<b>" not in (tmp_path / "study/page/pairs.js").read_bytes(), "texts of strangers stay text"


def test_two_runs_of_one_system_are_told_apart_and_one_run_is_no_pair(
    make_results: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = make_results(tmp_path / "a", "model", 20), make_results(tmp_path / "b", "model", 90)
    assert make_study(first, second, tmp_path / "study").systems == (f"model ({first})", f"model ({second})")
    with pytest.raises(DataError, match="found as both systems; give the results of two"):
        make_study(first, tmp_path / "b" / ".." / "a", tmp_path / "same")
    assert not (tmp_path / "same").exists()


def test_regions_are_open_inside_and_veiled_outside(results: tuple[Path, Path], tmp_path: Path) -> None:
    make_study(*results, tmp_path / "study")
    pair = page_of(tmp_path / "study")["pairs"][0]
    veil = np.asarray(Image.open(tmp_path / "study/page" / pair["subjects"][0]["region"]))
    assert veil.shape == (64, 96, 4)
    assert veil[30, 15, 3] == 0 and veil[30, 80, 3] == 170 and veil[30, 4, 3] == 255
    assert np.asarray(Image.open(tmp_path / "study/page" / pair["layout"])).shape == (64, 96, 3)


def test_the_same_seed_makes_the_same_page_and_another_takes_other_scenes(
    make_results: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = make_results(tmp_path / "a", "model-q1", 20, 12), make_results(tmp_path / "b", "other", 90, 12)
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        make_study(first, second, tmp_path / name, seed=seed, per_count=2)
    pages = {name: page_of(tmp_path / name) for name in ("one", "two", "three")}
    assert pages["one"] == pages["two"] and pages["one"] != pages["three"]
    taken = [json.loads((tmp_path / name / "key.json").read_text())["scenes"] for name in ("one", "three")]
    assert set(taken[0].values()) != set(taken[1].values())
    assert sorted(len(pair["subjects"]) for pair in pages["one"]["pairs"]) == [2, 2, 3, 3]


def test_images_of_sigma_run_that_carry_their_scene_are_results_too(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    for name, shade in (("a", 10), ("b", 99)):
        folder = tmp_path / name
        picture = Image.new("RGB", (32, 32), "red")
        control = {"type": "box2d", "xyxy": [0, 0, 20, 20]}
        scene = Scene(subjects=(Subject(name="s", image=picture, control=control),), size=(32, 32), prompt="a room")
        document = scene.copy_inputs(folder).to_document()
        text = PngInfo()
        text.add_text("sigma.scene", json.dumps(document))
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(folder / "0000.png", pnginfo=text)
        Image.new("RGB", (32, 32)).save(folder / "0000.layout.png")
    assert list(read_results(tmp_path / "a").images) == ["0000"]
    assert make_study(tmp_path / "a", tmp_path / "b", tmp_path / "study").pairs == 1


def problems(first: Path, second: Path, target: Path) -> str:
    with pytest.raises(DataError) as caught:
        make_study(first, second, target)
    assert not target.exists() and not list(target.parent.glob(f".{target.name}*"))
    return caught.value.render()


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "images/manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_every_problem_of_a_manifest_is_told(results: tuple[Path, Path], tmp_path: Path) -> None:
    def spoil_files(data: dict[str, Any]) -> None:
        data["images"][0]["image"] = "gone.png"
        data["images"][1]["scene"] = "../../out.json"
        data["images"][3]["key"] = "test-2"

    def spoil_text(data: dict[str, Any]) -> None:
        data["images"][2]["key"] = 7
        data["images"][3] = "0003.png"

    edit(results[1], spoil_files)
    said = problems(*results, tmp_path / "study")
    for wanted in (
        'images[0].image: file not found: "gone.png"',
        'images[1].scene: found "../../out.json", expected a file in',
        'images[3]: found "main/test-2" a second time',
    ):
        assert wanted in said
    edit(results[1], spoil_text)
    said = problems(*results, tmp_path / "study")
    assert "images[2].key: " in said and "images[3]: found str, expected a map" in said


def test_scenes_must_be_the_same_and_images_of_their_shape(results: tuple[Path, Path], tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(results[1] / "images/0000.png")
    assert "0000.png: 64x64 pixels, its scene is 96x64" in problems(*results, tmp_path / "study")
    scene = results[1] / "images/scenes/1.json"
    document = json.loads(scene.read_text())
    document["subjects"][0]["caption"] = "another thing"
    scene.write_text(json.dumps(document))
    assert "main/test-1: the systems were given different subjects" in problems(*results, tmp_path / "study")
    document["subjects"][0]["control"] = {"type": "box2d", "xyxy": [0, 0, 5]}
    scene.write_text(json.dumps(document))
    assert "main/test-1: subjects[0].control.xyxy" in problems(*results, tmp_path / "study")


def test_what_only_one_has_is_left_out_and_said(results: tuple[Path, Path], tmp_path: Path) -> None:
    edit(results[1], lambda data: data["images"].pop())
    report = make_study(*results, tmp_path / "study")
    assert report.pairs == 3 and report.notes == ("only model-q1 has main/test-3; left out",)
    edit(results[1], lambda data: [one.update(key=f"other-{k}") for k, one in enumerate(data["images"])])
    assert 'no scene in common: one has e.g. "main/test-0", the other "main/other-0"' in problems(
        *results, tmp_path / "again"
    )


def test_the_command(results: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["make", *map(str, results), "--output", str(tmp_path / "study"), "--per-count", "1"]
    assert guarded(study_app, "sigma-study", arguments) == 0
    assert "2 pairs of model-q1 and model-q2: open or host" in capsys.readouterr().out
    assert guarded(study_app, "sigma-study", arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert guarded(study_app, "sigma-study", ["make", str(tmp_path / "no"), str(tmp_path), "--output", "x"]) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert guarded(study_app, "sigma-study", ["make", str(tmp_path / "empty"), str(tmp_path), "--output", "x"]) == 2
    assert "no image that carries its scene" in capsys.readouterr().err
