"""``sigma-data``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sigma_framework import Box3D, Camera, ShardSet
from sigma_framework.cli import guarded
from sigma_framework.data_cli import data_app
from sigma_framework.dataset_build import record_of
from sigma_framework.set_pictures import box_corners, depth_picture, draw_boxes
from sigma_framework.shards import Encoding, encode_record, write_manifest, write_shard
from sigma_framework.testing import toy_example, toy_shards


def run(*arguments: str | Path) -> int:
    return guarded(data_app, "sigma-data", [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_shards(tmp_path / "set")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_check_counts_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", folder) == 0
    assert "6 samples in 2 shards, 0 damaged\n  1 subject: 2\n  2 subjects: 2" in capsys.readouterr().out
    assert run("check", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sizes"], found["with_depth"], found["boxes_3d"]) == ({"32x32": 6}, 6, 12)
    assert found["members"] == {"depth.png identities.png json masks.png target.jpg": 6}
    assert (found["depth"], found["masks"], found["licences"]) == ({"metric_mm": 6}, {"visible": 6}, {"": 6})


def test_check_of_a_run_folder_names_its_shards(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    folder.rename(tmp_path / "run" / "shards")
    assert run("check", tmp_path / "run") == 2
    assert f"no manifest.json, but its folder shards has one; give {tmp_path / 'run'}/shards" in capsys.readouterr().err


def test_check_compares_the_folder_with_the_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "00000.tar").rename(folder / "99999.tar")
    assert run("check", folder) == 2
    error = capsys.readouterr().err
    assert "1 tar files that it does not list ('99999.tar') and lacks 1 that it does ('00000.tar')" in error


def test_check_tells_samples_with_other_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = record_of(toy_example(1))
    samples = [encode_record(record, str(n), Encoding(target=form)) for n, form in enumerate(("png", "jpg"))]
    folder = tmp_path / "set"
    folder.mkdir()
    write_manifest(folder, [write_shard(folder, "00000.tar", samples)], {})
    assert run("check", folder) == 2
    assert "samples have different members, which HF datasets refuses: 1 of" in capsys.readouterr().err
    assert run("convert", folder, tmp_path / "out", "--target", "png") == 0
    capsys.readouterr()
    assert run("check", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("2 samples in 1 shard, 0 damaged\n")


def test_check_names_what_is_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(folder / "00001.tar")
    assert run("check", folder) == 2
    error = capsys.readouterr().err
    assert "00001.tar: hash differs" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", [["check"], ["preview"], ["convert"]])
def test_no_set_is_the_users_mistake(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command, tmp_path / "nowhere", *([tmp_path / "out"] if command == ["convert"] else [])) == 2
    assert "no such folder" in capsys.readouterr().err


def test_preview_shows_every_part(folder: Path, tmp_path: Path) -> None:
    assert run("preview", folder, "--count", 3) == 0
    page = (tmp_path / "preview.html").read_text()
    assert page.count("<tr>") == 4
    assert page.count("<img") == 3 * 4 + 1 + 3 + 3  # samples 0, 2, 5 have 1, 3 and 3 identities
    assert "a grey floor" in page
    assert "http" not in page, "the page needs nothing else"


def test_preview_does_not_trust_texts(folder: Path, tmp_path: Path) -> None:
    shards = ShardSet(folder)
    record = {**shards.sample(0).record(), "prompt_full": "<script>alert(1)</script>"}
    other = tmp_path / "other"
    other.mkdir()
    write_manifest(other, [write_shard(other, "00000.tar", [encode_record(record, "a", Encoding())])], {})
    assert run("preview", other, "--output", tmp_path / "p.html") == 0
    page = (tmp_path / "p.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_preview_shows_damage_in_its_place(folder: Path, tmp_path: Path) -> None:
    flip(folder / "00001.tar")
    assert run("preview", folder) == 0
    assert re.search(r"class='bad'>00001\.tar", (tmp_path / "preview.html").read_text())


def test_boxes_lie_where_the_camera_sees_them() -> None:
    camera = Camera.from_fov_y(90, 64, 64)
    picture = np.zeros((64, 64, 3), np.uint8)
    box = Box3D(center=(0, 0, 4), size=(2, 2, 2))
    drawn = draw_boxes(picture, [box], [(0, 0, 1, 1)], camera).any(axis=2)
    scale = drawn.shape[0] // 64
    rows = np.flatnonzero(drawn[8 * scale :].any(axis=1)) / scale + 8
    # The near face at z = 3 spans +-1 / 3 of the focal length 32 around the middle.
    assert rows[0] == pytest.approx(32 - 32 / 3, abs=0.5)
    assert rows[-1] == pytest.approx(32 + 32 / 3, abs=0.5)
    assert np.allclose(box_corners(Box3D(center=(1, 2, 3), size=(2, 4, 6)))[7], (2, 4, 6))
    turned = box_corners(Box3D(center=(0, 0, 0), size=(2, 0.2, 0.2), rotation=(0, 90, 0)))
    assert np.abs(turned).max(axis=0) == pytest.approx([0.1, 0.1, 1])
    behind = draw_boxes(picture, [Box3D(center=(0, 0, -4), size=(2, 2, 2))], [(0, 0, 1, 1)], camera)
    assert not behind[8 * scale :].any()


def test_near_is_bright_and_unknown_is_red() -> None:
    shown = depth_picture(np.array([[0, 1], [2, 4]], np.float32), (2, 2))
    assert shown[0, 0].tolist() == [64, 0, 0]
    assert shown[0, 1, 0] == 255
    assert shown[1, 1].tolist() == [30, 30, 30]


def test_convert_changes_the_form_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("convert", folder, out, "--target", "jpg", "--identities", "webp", "--per-shard", 5) == 0
    assert "6 samples written" in capsys.readouterr().out
    was, now = ShardSet(folder), ShardSet(out)
    assert now.files == ("00000.tar", "00001.tar")
    assert now.members(0)["identities"][0] == "webp"
    assert now.sample(5).document == was.sample(5).document
    assert (now.sample(5).masks == was.sample(5).masks).all()
    assert run("convert", folder, out) == 2
    assert "exists already" in capsys.readouterr().err


def test_convert_without_a_format_keeps_every_byte_and_how_the_set_was_made(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "seed": 7, "stages": [{"name": "prompts"}]}))
    assert run("convert", folder, tmp_path / "out", "--per-shard", 5) == 0
    was, now = ShardSet(folder), ShardSet(tmp_path / "out")
    assert [now.members(k) for k in range(6)] == [was.members(k) for k in range(6)]
    assert was.members(0)["target"][0] == "jpg", "else nothing would be lost"
    assert (now.facts["seed"], now.facts["stages"]) == (7, [{"name": "prompts"}])
    assert now.facts["samples"] == 6


def test_convert_encodes_anew_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    assert run("convert", folder, tmp_path / "out", "--target", "jpg", "--quality", 20) == 0
    was, now = ShardSet(folder).members(3), ShardSet(tmp_path / "out").members(3)
    assert len(now["target"][1]) < len(was["target"][1])
    assert {part: now[part] for part in ("identities", "masks", "depth", "json")} == {
        part: was[part] for part in ("identities", "masks", "depth", "json")
    }


def test_convert_gives_bare_tar_files_their_lists(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in folder.glob("*.tar"):
        shutil.copy(path, bare)
    assert run("convert", bare, tmp_path / "out", "--target", "jpg") == 0
    assert ShardSet(tmp_path / "out").sample(3).document == ShardSet(folder).sample(3).document


def test_convert_of_a_damaged_set_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(folder / "00001.tar")
    assert run("convert", folder, tmp_path / "out") == 2
    assert "00001.tar/" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_formats_are_checked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", folder, tmp_path / "out", "--target", "webp") == 2
    assert "--target: found 'webp', expected png or jpg" in capsys.readouterr().err
