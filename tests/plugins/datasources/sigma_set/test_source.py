"""``sigma_set``: what every source is held to, and what it does with damage."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from sigma_datasources import plugin
from sigma_datasources.sigma_set.config import SigmaSetConfig
from sigma_datasources.sigma_set.source import SigmaSetSource
from sigma_framework import DataError, DataSourceSpec, Framework, ShardSet
from sigma_framework.testing import DataSourceConformance, ToySource, toy_shards

RECIPES = Path(__file__).parents[4] / "recipes"


class TestSigmaSet(DataSourceConformance):
    spec: ClassVar[DataSourceSpec] = next(s for s in plugin.sigma_register_datasources() if s.name == "sigma_set")
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _shards(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"path": str(toy_shards(tmp_path / "set"))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_shards(tmp_path / "set", samples=12, per_shard=5)


def damage(folder: Path, key: str) -> None:
    """Flips one byte in the middle of the sample's target."""
    for index in sorted(folder.glob("*.idx.json")):
        for row in json.loads(index.read_text())["samples"]:
            if row["key"] == key:
                offset, size = row["members"][f"{key}.target.jpg"]
                shard = folder / index.name.removesuffix(".idx.json")
                content = bytearray(shard.read_bytes())
                content[offset + size // 2] ^= 1
                shard.write_bytes(content)
                return
    raise AssertionError(key)


def test_a_damaged_sample_is_replaced_by_the_next_of_its_shape(folder: Path, tmp_path: Path) -> None:
    damage(folder, "00000004")
    quarantine = tmp_path / "bad.jsonl"
    config = SigmaSetConfig(path=str(folder), max_bad=0.1, quarantine=str(quarantine))
    source = SigmaSetSource(config)
    assert source[4].key == source[7].key == ToySource(length=12)[7].key
    assert source[4].key == SigmaSetSource(config)[4].key, "whatever was read before"
    assert list(source.bad) == [4]
    row = json.loads(quarantine.read_text().splitlines()[0])
    assert (row["index"], row["example"]) == (4, "00000.tar/00000004")
    assert "hash differs" in row["error"]


def test_a_quarantine_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    damage(folder, "00000004")
    config = SigmaSetConfig(path=str(folder), max_bad=0.1, quarantine=str(tmp_path / "nowhere" / "bad.jsonl"))
    with pytest.raises(DataError, match=r"quarantine: .*bad\.jsonl cannot be written \(No such file"):
        SigmaSetSource(config)[4]


def test_the_last_of_its_shape_is_replaced_by_the_first(folder: Path) -> None:
    damage(folder, "00000011")
    assert SigmaSetSource(SigmaSetConfig(path=str(folder), max_bad=0.1))[11].key == ToySource(length=12)[2].key


@pytest.mark.parametrize(("limit", "stops"), [(0.16, True), (0.17, False)])
def test_too_many_damaged_samples_stop_with_the_list(folder: Path, limit: float, stops: bool) -> None:
    for key in ("00000001", "00000006"):
        damage(folder, key)
    source = SigmaSetSource(SigmaSetConfig(path=str(folder), max_bad=limit))
    source[1]
    if stops:
        with pytest.raises(DataError, match=r"2 of 12 examples damaged \(17 %\), limit 16 %") as caught:
            source[6]
        assert "00000.tar/00000001" in str(caught.value)
        assert "00001.tar/00000006" in str(caught.value)
    else:
        assert len(source[6].subjects) == 1


def test_counts_are_known_without_reading_pictures(folder: Path) -> None:
    for shard in folder.glob("*.tar"):
        shard.write_bytes(b"")
    source = SigmaSetSource(SigmaSetConfig(path=str(folder)))
    assert source.subject_counts.tolist() == [1 + i % 3 for i in range(12)]
    with pytest.raises(DataError, match="ends early"):
        source[0]


def test_it_is_small_to_send_to_workers(folder: Path) -> None:
    assert len(pickle.dumps(SigmaSetSource(SigmaSetConfig(path=str(folder))))) < 1000


@pytest.mark.parametrize("options", [{"path": " "}, {"path": "x", "max_bad": 1.5}])
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(reversed(options)))):
        SigmaSetConfig(**options)  # type: ignore[arg-type]  # as a recipe would give them


def test_records_keep_the_depth_of_the_whole_picture(folder: Path) -> None:
    record = SigmaSetSource(SigmaSetConfig(path=str(folder))).record(2)
    assert record["masks"].shape == (3, 32, 32)
    assert np.count_nonzero(record["depth"]) == record["masks"].any(axis=0).sum()


def test_a_curriculum_trains_on_what_a_build_wrote(tmp_path: Path) -> None:
    small = ["datasources.main.image_size=64", "datasources.main.identity_size=32", "datasources.main.min_subjects=4"]
    build = [*small, "build.count=12", "annotators.filter.min_subjects=1", f"run.dir={tmp_path / 'build'}"]
    Framework.load(RECIPES / "build.yaml", build).run()
    built = ShardSet(tmp_path / "build" / "shards")
    assert built.sample(0).document.provenance == {"source": "toybox", "stages": ["filter"]}
    assert {"type": "toybox", "image_size": 64}.items() <= built.facts["source"].items(), "the set tells its source"
    train = [
        "datasources.main.type=sigma_set", f"datasources.main.path={tmp_path / 'build' / 'shards'}",
        "stages.s1.steps=2", "stages.s1.subjects.max=10", "stages.s2=null", "stages.s3=null", "train.batch_size=1",
        "train.validation_scenes=2", "train.grid_scenes=1", "train.lora.rank=4", "train.grid_steps=1",
        "train.lora.alpha=4", "conditioning.identity_size=32", f"run.dir={tmp_path / 'train'}",
    ]  # fmt: skip
    lines = Framework.load(RECIPES / "curriculum.yaml", train).run()
    assert any(line.startswith("2 steps") for line in lines)
