"""``musar_gen``: rows for a build, damage, and why it is not trained on as it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sigma_datasources import plugin
from sigma_datasources.musar_gen.config import MusarGenConfig
from sigma_datasources.musar_gen.source import MusarGenSource
from sigma_framework import DataError
from sigma_framework.testing.component import ComponentConformance

PROMPT = "An undivided, seamless, and harmonious picture with two objects. in the snowy street scene, A and B are placed together."  # noqa: E501  # the set's own wording


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="JPEG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "cond_img_0": picture((200, 0, 0)),
            "cond_img_1": picture((0, 0, 200)),
            "tgt_img": picture((90, 90 + k, 90), (60, 40)),
            "cond_prompt_0": "a red lamp",
            "cond_prompt_1": "a blue chair",
            "prompt": PROMPT,
        }
        for k in range(count)
    ]


def source(path: Path, records: list[dict[str, Any]], **options: Any) -> MusarGenSource:
    parquet.write_table(pa.Table.from_pylist(records), path / "train.parquet", row_group_size=2)
    return MusarGenSource(MusarGenConfig(path=str(path), image_size=32, identity_size=16, **options))


class TestMusarGen(ComponentConformance):
    from sigma_framework import DataSource

    spec = next(s for s in plugin.sigma_register_datasources() if s.name == "musar_gen")
    protocol: ClassVar[type] = DataSource
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source(tmp_path, rows(2))
        monkeypatch.setattr(type(self), "options", {"path": str(tmp_path)})


def test_a_record_says_what_the_row_says(tmp_path: Path) -> None:
    found = source(tmp_path, rows(3))
    assert (found.subject_counts.tolist(), found.sizes.tolist()) == ([2] * 3, [[32, 32]] * 3)
    record = found.record(2)
    assert record["captions"] == ["a red lamp", "a blue chair"]
    assert (record["prompt_full"], record["prompt_background"]) == (PROMPT, "the snowy street scene")
    assert record["target"].shape == (32, 32, 3)
    assert not {"masks", "boxes_xyxy", "depth"} & set(record)
    red, blue = record["identities"]
    assert red[8, 8].argmax() == 0
    assert blue[8, 8].argmax() == 2
    assert (red[0] == 255).all(), "a wide picture is centred on white"


def test_a_prompt_without_scene_leaves_the_background_to_annotators(tmp_path: Path) -> None:
    record = source(tmp_path, [{**rows(1)[0], "prompt": "a lamp beside a chair"}]).record(0)
    assert "prompt_background" not in record


def test_it_cannot_be_trained_on_and_says_why(tmp_path: Path) -> None:
    found = source(tmp_path, rows(1))
    with pytest.raises(DataError, match=r"no masks.*annotate\.yaml.*sigma_set"):
        found[0]
    with pytest.raises(IndexError):
        found[1]


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("tgt_img", {"bytes": picture((0, 0, 0))["bytes"][:-12], "path": None}, "tgt_img: cut off"),
        ("cond_img_1", {"bytes": None, "path": "a.jpg"}, "cond_img_1 holds no picture"),
        ("cond_prompt_0", "", "cond_prompt_0: empty"),
    ],
)
def test_a_damaged_row_is_replaced(tmp_path: Path, column: str, value: Any, what: str) -> None:
    records = rows(3)
    records[0][column] = value
    found = source(tmp_path, records, max_bad=0.5)
    assert found.record(0)["key"] == "musar-000001"
    assert what in found._sound.bad[0]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column prompt"):
        source(tmp_path, [{k: v for k, v in rows(1)[0].items() if k != "prompt"}])
    with pytest.raises(DataError, match="empty"):
        parquet.write_table(pa.Table.from_pylist(rows(1)).slice(0, 0), tmp_path / "train.parquet")
        MusarGenSource(MusarGenConfig(path=str(tmp_path)))
