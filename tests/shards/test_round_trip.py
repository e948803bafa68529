"""What is written is what is read: pictures, facts, lists; the same bytes every time; also for other readers."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_framework import DataError, ShardSet
from sigma_framework.dataset_build import record_of
from sigma_framework.shards import Encoding, ShardDocument, decode_sample, encode_record, write_manifest, write_shard
from sigma_framework.shards.document import DepthFacts
from sigma_framework.testing import ToySource, toy_example, toy_shards


def decoded(record: dict[str, Any], encoding: Encoding | None = None) -> Any:
    sample = encode_record(record, "a", encoding or Encoding())
    members = {name.partition(".")[0]: (name.rpartition(".")[2], data) for name, data in sample.members.items()}
    return decode_sample(members, "test/a")


def test_a_subject_that_nobody_would_see_is_not_written() -> None:
    record = record_of(toy_example(2))
    with pytest.raises(DataError, match=r"subjects \[1\] are covered by others"):
        encode_record({**record, "masks": np.stack([record["masks"][0]] * 2)}, "a", Encoding())


def test_examples_come_back(tmp_path: Path) -> None:
    shards = ShardSet(toy_shards(tmp_path / "set", encoding=Encoding()))
    source = ToySource(length=6, size_hw=(32, 32), identity_size=16)
    assert len(shards) == 6
    assert shards.subject_counts.tolist() == [1, 2, 3, 1, 2, 3]
    assert shards.sizes.tolist() == [[32, 32]] * 6
    for index in range(6):
        was, now = source[index], shards.sample(index).example()
        assert (was.target == now.target).all()
        assert all((a == b).all() for a, b in zip(was.identities, now.identities, strict=True))
        assert (was.key, was.prompt_full, was.prompt_background) == (now.key, now.prompt_full, now.prompt_background)
        for one, other in zip(was.subjects, now.subjects, strict=True):
            assert (one.mask == other.mask).all()
            assert one.depth is not None and other.depth is not None
            assert np.abs(one.depth - other.depth)[one.mask].max() <= 0.0005 + 1e-6
            assert (one.camera, one.box2d, one.box3d, one.caption) == (
                other.camera, other.box2d, other.box3d, other.caption,
            )  # fmt: skip


def test_a_record_comes_back_and_gives_the_same_members() -> None:
    record = {**record_of(toy_example(3)), "licence": "CC0", "provenance": {"stages": ["a"]}}
    first = encode_record(record, "a", Encoding())
    second = encode_record(decoded(record).record(), "a", Encoding())
    assert dict(first.members) == dict(second.members)


def test_two_sets_are_byte_identical(tmp_path: Path) -> None:
    one, other = toy_shards(tmp_path / "one"), toy_shards(tmp_path / "other")
    assert sorted(os.listdir(one)) == sorted(os.listdir(other))
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in os.listdir(one))


def test_manifest_and_index_say_what_is_there(tmp_path: Path) -> None:
    folder = toy_shards(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [entry["samples"] for entry in manifest["shards"]] == [4, 2]
    with tarfile.open(folder / "00000.tar") as shard:
        names = shard.getnames()
        assert {info.mtime for info in shard.getmembers()} == {0}
    assert names == list(manifest["shards"][0]["members"])
    index = json.loads((folder / "00000.tar.idx.json").read_text())
    assert [row["subjects"] for row in index["samples"]] == [1, 2, 3, 1]


@pytest.mark.parametrize(
    ("depth", "kind", "stored", "error"),
    [
        (np.linspace(0.5, 9, 64 * 64), "metric", "metric_mm", 0.0005),
        (np.linspace(2, 500, 64 * 64), "metric", "metric", 500 / 65534),
        (np.linspace(0.001, 3, 64 * 64), "relative", "relative", 3 / 65534),
    ],
)
def test_depth_keeps_its_kind_and_its_values(depth: Any, kind: str, stored: str, error: float) -> None:
    given = depth.reshape(64, 64).astype(np.float32)
    given[0, 0] = 0
    sample = decoded({**record_of(toy_example(1)), "depth": given, "depth_kind": kind})
    assert sample.document.depth.kind == stored
    assert sample.depth[0, 0] == 0
    assert np.abs(sample.depth - given).max() <= error


def test_holes_in_depth_take_the_subjects_median() -> None:
    record = record_of(toy_example(1))
    depth = np.where(record["masks"][0], np.float32(2), np.float32(0))
    rows, columns = np.nonzero(record["masks"][0])
    depth[rows[:5], columns[:5]] = 0
    subject = decoded({**record, "depth": depth}).example().subjects[0]
    assert (subject.depth[subject.mask] == 2).all()
    depth[rows[: len(rows) * 2 // 3], columns[: len(rows) * 2 // 3]] = 0
    assert decoded({**record, "depth": depth}).example().subjects[0].depth is None


def test_overlapping_masks_become_visible_ones() -> None:
    record = record_of(toy_example(2))
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 10:40, 10:40], masks[1, 20:30, 20:60] = True, True
    record = {**record, "masks": masks, "boxes_xyxy": [[10, 10, 40, 40], [20, 20, 60, 30]]}
    both = masks.all(axis=0)
    smaller = decoded(record).example()
    assert smaller.subjects[1].mask[both].all()
    assert not smaller.subjects[0].mask[both].any()
    said = decoded({**record, "mask_kind": "whole", "front_to_back": [0, 1]}).example()
    assert said.subjects[0].mask[both].all()
    assert not said.subjects[1].mask[both].any()


@pytest.mark.parametrize("identities", ["png", "jpg", "webp"])
def test_identities_may_be_stored_smaller(identities: Any) -> None:
    record = record_of(toy_example(2, identity_size=64))
    sample = decoded(record, Encoding(identities=identities))
    error = np.abs(sample.identities[1].astype(int) - record["identities"][1]).mean()
    assert error == 0 if identities == "png" else error < 6


@pytest.mark.parametrize("lacking", ["target", "masks", "captions", "camera", "prompt_full"])
def test_a_record_without_something_names_it(lacking: str) -> None:
    record = {key: value for key, value in record_of(toy_example(1)).items() if key != lacking}
    with pytest.raises(DataError, match=lacking):
        encode_record(record, "a", Encoding())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"target": np.zeros((32, 64, 3), np.uint8)}, r"target: found uint8 of shape \(32, 64, 3\), expected"),
        ({"target": np.zeros((64, 64, 3))}, "target: found float64"),
        ({"identities": [np.zeros((16, 16, 3), np.uint8), np.zeros((32, 16, 3), np.uint8)]}, r"identities\[1\]: found"),
        ({"identities": [np.zeros((16, 16, 3), np.uint8)]}, "'identities': 1.*expected one of each per subject, 2"),
        ({"boxes_3d": [None]}, "'boxes_3d': 1"),
        ({"masks": np.zeros((64, 64), bool)}, r"masks: found bool of shape \(64, 64\)"),
        ({"masks": np.zeros((2, 64, 64), bool)}, "a mask is empty"),
        ({"depth": np.ones((3, 3), np.float32)}, r"depth: found shape \(3, 3\)"),
        ({"provenance": {"score": float("nan")}}, "cannot be written as JSON"),
        ({"provenance": {"score": np.float32(1)}}, "cannot be written as JSON"),
        ({"captions": ["a \ud800", "b"]}, "cannot be written as JSON"),
        ({"identities": [np.zeros((6000, 5000, 3), np.uint8)] * 2}, "take 60 megapixels.*smaller image_size"),
    ],
)
def test_parts_that_do_not_fit_together_are_not_written(change: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=what):
        encode_record({**record_of(toy_example(2)), **change}, "a", Encoding())


def test_documents_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="near"):
        DepthFacts(kind="metric", near=2, far=1)
    facts = decoded(record_of(toy_example(1))).document
    for change in ({"version": 2}, {"subjects": ()}, {"front_to_back": (0, 0)}, {"size": (0, 3)}):
        fields = {name: getattr(facts, name) for name in facts.__slots__}
        with pytest.raises(ValueError, match="found"):
            ShardDocument(**{**fields, **change})


def test_a_folder_without_manifest_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ShardSet(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        ShardSet(tmp_path / "nowhere")


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = encode_record(record_of(toy_example(1)), "a", Encoding())

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path, "00000.tar", [sample])
    with pytest.raises(OSError, match="No space"):
        write_manifest(tmp_path, [], {})
    assert list(tmp_path.iterdir()) == []


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    import webdataset

    folder = toy_shards(tmp_path)
    samples = list(webdataset.WebDataset([str(folder / "00000.tar")], shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == [f"{i:08d}" for i in range(4)]
    assert samples[1]["target.jpg"].size == (32, 32)
    assert samples[1]["masks.png"].size == (32, 64)
    assert len(samples[1]["json"]["subjects"]) == 2


@pytest.mark.filterwarnings("ignore")
def test_hf_datasets_reads_the_shards(tmp_path: Path) -> None:
    import datasets

    folder = toy_shards(tmp_path / "set")
    found = datasets.load_dataset(
        "webdataset", data_files=str(folder / "*.tar"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(found) == 6
    assert set(found.column_names) >= {"target.jpg", "identities.png", "masks.png", "depth.png", "json", "__key__"}
    depth = np.asarray(found[2]["depth.png"])
    assert depth.dtype.kind in "ui"
    assert depth.max() > 255, "16 bits are kept"
    assert len(found[2]["json"]["subjects"]) == 3
