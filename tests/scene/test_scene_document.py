"""Scene documents: what is read, what is refused, and that everything wrong is said at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sigma_framework import Camera, Scene, SceneError, Subject

BOX = {"type": "box2d", "xyxy": [0, 0, 32, 32]}


def write(folder: Path, text: str | bytes, name: str = "scene.yaml") -> Path:
    Image.new("RGB", (24, 24), "red").save(folder / "mug.png")
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def one_subject(extra: str = "") -> str:
    subject = "subjects: [{image: mug.png, control: {type: box2d, xyxy: [0, 0, 32, 32]}}]"
    return f"version: 1\n{extra}\n{subject}\n"


def problems_of(source: object, base: Path | None = None) -> dict[str, str]:
    with pytest.raises(SceneError) as caught:
        Scene.load(source, base)
    return {problem.where: str(problem) for problem in caught.value.problems}


def test_loads_what_the_documentation_shows(tmp_path: Path) -> None:
    scene = Scene.load(write(tmp_path, one_subject("size: [64, 48]\nprompt: a wooden table\ncamera: {fov_y: 40}")))
    assert scene.size == (64, 48)
    assert scene.subjects[0].name == "subject1"
    assert scene.subjects[0].control["xyxy"] == [0, 0, 32, 32]
    assert scene.prompt_kind == "background"


def test_text_that_looks_like_an_interpolation_stays_text(tmp_path: Path) -> None:
    scene = Scene.load(write(tmp_path, one_subject("prompt: 'at ${oc.env:HOME} and ${version}'")))
    assert scene.prompt == "at ${oc.env:HOME} and ${version}"


@pytest.mark.parametrize("word", ["no", "yes", "on", "012", "12:30:45", "2020-01-01", "1e5x", "=", "<<x"])
def test_words_stay_what_was_written(tmp_path: Path, word: str) -> None:
    assert Scene.load(write(tmp_path, one_subject(f"prompt: {word}"))).prompt == word


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("- a\n", "found a list, expected a map"),
        ("word", "expected a map"),
        ("prompt: a\nprompt: b\n", "lines 1 and 2"),
        ("a:\n\t- b\n", "tabs are not allowed"),
        (b"prompt: \xff\xfe", "not UTF-8 text at byte 8"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "this is JPEG; expected YAML or JSON text, or a PNG that this program made"),
        ('a: "pics\\mug.png"', "a backslash begins an escape: write single quotes"),
        ("a: b\nprompt: 'open\nsize: [1, 2]\n", "line 2: a quotation mark is opened and not closed"),
        (b"prompt: a\0b", "NUL"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("size: [.nan, 1]", "expected a finite number"),
        ("size: [1e999, 1]", "too large"),
        ("[" * 2000, "nested deeper"),
        ("a: b\n---\nc: d\n", "one document"),
        ("a: [1, 2", "line"),
    ],
)
def test_refuses_what_is_not_plain_data(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in problems_of(write(tmp_path, text))[""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": 1, "prompt": 2}', '"prompt" is given twice'),
        ('{"size": [NaN, 1]}', "found NaN"),
        ('{"size": [1e999, 1]}', "too large"),
        ("[" * 100_000, "nested deeper"),
        ('{"a": ' + "1" * 5000 + "}", "too many digits"),
        ("{", "not JSON, line 1"),
    ],
)
def test_refuses_broken_json(tmp_path: Path, text: str, said: str) -> None:
    assert said in problems_of(write(tmp_path, text, "scene.json"))[""]


def test_refuses_a_huge_file_and_a_missing_one(tmp_path: Path) -> None:
    assert "at most" in problems_of(write(tmp_path, "#" * (5 * 2**20)))[""]
    assert "not found" in problems_of(tmp_path / "none.yaml")[""]
    assert "folder" in problems_of(tmp_path)[""]


def test_unknown_keys_get_the_nearest_name(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, one_subject("promt: a\ncamera: {fov: 3}")))
    assert "did you mean 'prompt'?" in found["promt"]
    assert "did you mean 'fov_y'?" in found["camera.fov"]


def test_five_mistakes_are_five_problems(tmp_path: Path) -> None:
    text = (
        "version: 1\nsize: [64]\nprompt: 3\n"
        "subjects:\n"
        "  - {name: a, image: mug.png, captoin: x, control: {type: box2d, xyxy: [0, 0, 1, 1]}}\n"
        "  - {name: a, image: /etc/hostname, control: {type: box2d, xyxy: [0, 0, 1, 1]}}\n"
    )
    found = problems_of(write(tmp_path, text))
    assert set(found) == {"size", "prompt", "subjects[0].captoin", "subjects[1].name", "subjects[1].image"}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"subjects": []}, "subjects"),
        ({"subjects": "cat"}, "subjects"),
        ({"subjects": [3]}, "subjects[0]"),
        ({"subjects": [{"image": "mug.png"}]}, "subjects[0].control"),
        ({"subjects": [{"control": BOX}]}, "subjects[0].image"),
        ({"subjects": [{"image": "mug.png", "control": "box2d"}]}, "subjects[0].control"),
        ({"subjects": [{"image": "https://a.b/c.png", "control": BOX}]}, "subjects[0].image"),
        ({"subjects": [{"image": "C:\\a.png", "control": BOX}]}, "subjects[0].image"),
        ({"subjects": [{"name": "a\nb", "image": "mug.png", "control": BOX}]}, "subjects[0].name"),
        ({"size": [0, 64]}, "size"),
        ({"size": [64, 100_000]}, "size"),
        ({"size": ["64", 64]}, "size[0]"),
        ({"camera": {"fov_y": 180}}, "camera"),
        ({"camera": {"fx": 1.0}}, "camera"),
        ({"camera": {"fov_y": "wide"}}, "camera.fov_y"),
        ({"camera": 50}, "camera"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"prompt": "a" * 30_000}, "prompt"),
        ({"prompt_kind": "all"}, "prompt_kind"),
        ({"structure_range": [2.0, 1.0]}, "structure_range"),
        ({"background": 3}, "background"),
        ({"version": 2}, "version"),
        ({"version": "one"}, "version"),
    ],
)
def test_says_where_it_is_wrong(tmp_path: Path, change: dict[str, object], where: str) -> None:
    right = {"version": 1, "subjects": [{"image": "mug.png", "control": BOX}]}
    assert list(problems_of({**right, **change}, tmp_path)) == [where]


def test_26_subjects_are_one_too_many() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    subjects = [Subject(image=image, control=BOX) for _ in range(26)]
    assert "found 26, expected 1 to 25" in problems_of({"subjects": subjects})["subjects"]
    assert len(Scene(subjects=tuple(subjects[:25])).subjects) == 25
    with pytest.raises(SceneError, match="1 to 25"):
        Scene(subjects=tuple(subjects))


def test_a_newer_version_is_one_problem(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, "version: 2\nlayers: []\n"))
    assert list(found) == ["version"] and "upgrade" in found["version"]


def test_records_are_checked_like_documents() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(SceneError) as caught:
        Scene(
            subjects=(Subject(name="a", image=image, control=BOX), Subject(name="a", image=3, control=BOX)), size=(0, 1)
        )
    assert {problem.where for problem in caught.value.problems} == {"size", "subjects[1].image", "subjects[1].name"}


def test_python_numbers_of_numpy_are_taken() -> None:
    control = {"type": "box2d", "xyxy": np.array([0, 0, 8, 8])}
    scene = Scene(
        subjects=[Subject(image="a.png", control=control)],
        size=(np.int64(64), 32),
        camera=Camera(fx=1, fy=1, cx=0, cy=0),
    )
    assert scene.size == (64, 32) and isinstance(scene.size[0], int)
    assert scene.subjects[0].control["xyxy"] == [0, 0, 8, 8]
    assert json.dumps(scene.to_document())


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    prompt=TEXT,
    caption=TEXT,
    name=TEXT.filter(lambda text: text.strip()),
    far=st.floats(1e-9, 1e9),
    as_json=st.booleans(),
)
def test_save_then_load_gives_the_same_document(
    tmp_path_factory: pytest.TempPathFactory, *, prompt: str, caption: str, name: str, far: float, as_json: bool
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    control = {
        "type": "box2d",
        "xyxy": [0.1, 0.2, far, 3],
        "note": f"{caption}.",
    }  # text that ends like a picture names a file
    subject = Subject(name=name, image=np.full((9, 9, 3), 7, np.uint8), caption=caption, control=control)
    saved = Scene(subjects=(subject,), prompt=prompt, size=(64, 48)).save(folder / ("a.json" if as_json else "a.yaml"))
    loaded = Scene.load(folder / ("a.json" if as_json else "a.yaml"))
    assert loaded.to_document() == saved.to_document()
    assert (loaded.prompt, loaded.subjects[0].name, loaded.subjects[0].control) == (prompt, name, control)


def test_line_separators_and_emoji_survive_saving(tmp_path: Path) -> None:
    prompt = "one \u2028 two \u2029 three\ufefffour \U0001f600 日本\nfive"
    subject = Subject(image=np.full((9, 9, 3), 7, np.uint8), control=BOX)
    Scene(subjects=(subject,), prompt=prompt).save(tmp_path / "a.yaml")
    assert Scene.load(tmp_path / "a.yaml").prompt == prompt
