"""``any_insertion`` in the layouts that it has: both label columns, the converted folder, and what may be wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sigma_datasources import plugin
from sigma_datasources.any_insertion.config import AnyInsertionConfig
from sigma_datasources.any_insertion.source import AnyInsertionSource, with_article
from sigma_framework import DataError, DataSourceSpec
from sigma_framework.testing import DataSourceConformance

SPEC = next(s for s in plugin.sigma_register_datasources() if s.name == "any_insertion")
SIZES = {"image_size": 64, "identity_size": 48}


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form)
    return buffer.getvalue()


def pictures(number: int = 0) -> dict[str, bytes]:
    """A red block in a green picture of 100 x 80 and a red disc as reference, with 8-bit masks."""
    tar, ref = np.zeros((80, 100, 3), np.uint8), np.full((60, 60, 3), 90, np.uint8)
    tar[:] = (30, 120 + number, 40)
    tar_mask, ref_mask = np.zeros((80, 100), np.uint8), np.zeros((60, 60), np.uint8)
    tar_mask[20:50, 60:90] = 255
    tar[tar_mask > 0] = (200, 30, 30)
    rows, columns = np.mgrid[:60, :60]
    ref_mask[(rows - 30) ** 2 + (columns - 30) ** 2 <= 20**2] = 255
    ref[ref_mask > 0] = (200, 30, 30)
    return {"ref_image": png(ref), "ref_mask": png(ref_mask), "tar_image": png(tar, "JPEG"), "tar_mask": png(tar_mask)}


def rows(count: int, label: str = "label") -> list[dict[str, Any]]:
    return [
        {
            "id": f"train/object/{k}",
            "split": "train",
            "category": "object" if k % 2 == 0 else "accessory",
            label: "coffee cup",
            **{part: {"bytes": data, "path": f"{k}.png"} for part, data in pictures(k).items()},
        }
        for k in range(count)
    ]


def write(path: Path, records: list[dict[str, Any]], per_group: int = 2) -> Path:
    parquet.write_table(pa.Table.from_pylist(records), path, row_group_size=per_group)
    return path


class TestAnyInsertion(DataSourceConformance):
    spec: ClassVar[DataSourceSpec] = SPEC
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "train-00000.parquet", rows(4))
        monkeypatch.setattr(type(self), "options", {"path": str(path), **SIZES})


def source(path: Path, **options: Any) -> AnyInsertionSource:
    return AnyInsertionSource(AnyInsertionConfig(path=str(path), **{**SIZES, **options}))


@pytest.mark.parametrize("label", ["label", "main_label"])
def test_either_label_column_is_read(tmp_path: Path, label: str) -> None:
    found = source(write(tmp_path / "a.parquet", rows(2, label)))
    assert found[0].subjects[0].caption == "a coffee cup"
    assert found[0].prompt_full == "a photograph of a coffee cup"
    assert found[0].key == "train/object/0"


def test_the_target_is_a_square_around_the_subject(tmp_path: Path) -> None:
    example = source(write(tmp_path / "a.parquet", rows(1)), image_size=80)[0]
    # The square of 80 is moved to the right edge: columns 20..100, so the block at 60..90 lies at 40..70.
    assert example.subjects[0].box2d == (40, 20, 70, 50)
    assert np.abs(example.target[example.subjects[0].mask].mean(axis=0) - (200, 30, 30)).max() < 8


def test_the_reference_is_cut_out_on_white(tmp_path: Path) -> None:
    (identity,) = source(write(tmp_path / "a.parquet", rows(1)))[0].identities
    assert identity.shape == (48, 48, 3)
    assert (identity[0] == 255).all()
    assert not ((identity == 90).all(axis=2)).any(), "its ground is gone"
    red = np.flatnonzero(identity[24, :, 1] < 100)
    assert (red[-1] - red[0] + 1) * 1.3 == pytest.approx(48, abs=2.6)


def test_categories_and_splits_choose(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows(5))
    assert len(source(path)) == 5
    assert len(source(path, categories=("accessory",))) == 2
    with pytest.raises(DataError, match=r"none of 5 records.*train/accessory, train/object"):
        source(path, split="test")


def test_several_files_are_one_source(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", rows(3, "main_label"))
    write(tmp_path / "a.parquet", rows(3), per_group=3)
    found = source(tmp_path)
    assert len(found) == 6
    assert found._records.name(5) == "b.parquet row 2"
    assert found[5].key == "train/object/2"


def test_missing_columns_are_named_with_their_file(tmp_path: Path) -> None:
    lacking = [{k: v for k, v in row.items() if k not in ("tar_mask", "label")} for row in rows(2)]
    write(tmp_path / "a.parquet", lacking)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not a table")
    with pytest.raises(DataError) as caught:
        source(tmp_path)
    text = str(caught.value)
    assert "a.parquet: no column tar_mask" in text
    assert "no column label or main_label" in text
    assert "b.parquet: not a readable Parquet file" in text


def test_columns_that_only_choose_may_be_missing(tmp_path: Path) -> None:
    bare = [{k: v for k, v in row.items() if k not in ("id", "split", "category")} for row in rows(2)]
    assert source(write(tmp_path / "a.parquet", bare))[1].key == "row-1"


@pytest.mark.parametrize(
    ("part", "content", "what"),
    [
        ("tar_image", pictures()["tar_image"][:-100], "cut off"),
        ("tar_image", b"<html>", "not a picture"),
        ("ref_mask", png(np.zeros((60, 60), np.uint8)), "mask is empty"),
        ("tar_mask", png(np.full((80, 30), 255, np.uint8)), "30x80 pixels, the picture has 100x80"),
        ("ref_image", None, "holds no picture"),
    ],
)
def test_a_damaged_record_is_replaced(tmp_path: Path, part: str, content: bytes | None, what: str) -> None:
    records = rows(4)
    records[1][part] = {"bytes": content, "path": "x.png"}
    found = source(write(tmp_path / "a.parquet", records), max_bad=0.5)
    assert found[1].key == "train/object/2"
    assert what in found._sound.bad[1]
    assert "a.parquet row 1" in found._sound.name_of(1)
    with pytest.raises(DataError, match="1 of 4 examples damaged"):
        source(tmp_path, max_bad=0.1)[1]


def test_records_without_masks_are_left_out(tmp_path: Path) -> None:
    records = rows(5)
    records[1]["tar_mask"] = None
    records[2]["ref_mask"] = {"bytes": None, "path": None}
    found = source(write(tmp_path / "a.parquet", records), max_bad=0)
    assert [found[k].key for k in range(len(found))] == [f"train/object/{k}" for k in (0, 3, 4)]
    assert found._records.name(found._rows[1]) == "a.parquet row 3"
    for record in records:
        record["tar_mask"] = {"bytes": None, "path": "x.png"}
    with pytest.raises(DataError, match="none of 5 records has masks"):
        source(write(tmp_path / "a.parquet", records))


def test_categories_without_mask_folders_are_left_out(tmp_path: Path) -> None:
    for category, parts in (("object", list(pictures())), ("text_prompt", ["ref_image", "tar_image"])):
        for part in parts:
            folder = tmp_path / "train" / category / part
            folder.mkdir(parents=True)
            (folder / "17.png").write_bytes(pictures()[part])
    assert [example.key for example in source(tmp_path, max_bad=0)] == ["train/object/17"]


@pytest.mark.parametrize("labels", ["category", "root", "none"])
def test_the_converted_folder(tmp_path: Path, labels: str) -> None:
    root = tmp_path / "data"
    for part, data in pictures().items():
        folder = root / "train" / "object" / part
        folder.mkdir(parents=True)
        (folder / "17.png").write_bytes(data)
    if labels != "none":
        place = root / "train" / "object" if labels == "category" else root
        (place / "labels.json").write_text(json.dumps({"17.png": "umbrella"}))
    found = source(root)
    assert found[0].subjects[0].caption == ("an object" if labels == "none" else "an umbrella")
    assert found[0].key == "train/object/17"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        source(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        source(tmp_path / "nowhere")


def test_a_record_for_a_build_says_only_what_is_known(tmp_path: Path) -> None:
    record = source(write(tmp_path / "a.parquet", rows(1)), licence="CC0").record(0)
    assert record["licence"] == "CC0"
    assert not {"depth", "prompt_full", "prompt_background", "boxes_3d"} & set(record)
    assert record["masks"].shape == (1, 64, 64)
    assert record["provenance"]["label"] == "coffee cup"


@pytest.mark.parametrize(
    ("label", "caption"), [("cup", "a cup"), ("Umbrella", "an umbrella"), ("a hat", "a hat"), ("t_shirt", "a t shirt")]
)
def test_articles(label: str, caption: str) -> None:
    assert with_article(label) == caption


@pytest.mark.parametrize("options", [{"image_size": 8}, {"identity_padding": 0.5}, {"max_bad": 2}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        AnyInsertionConfig(path="x", **options)
