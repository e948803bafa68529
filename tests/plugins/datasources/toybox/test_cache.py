"""The cache gives back what was rendered, and mends itself."""

from __future__ import annotations

import dataclasses
import logging
import pickle

import numpy as np
import pytest

from sigma_datasources.toybox.cache import ExampleCache, cache_key
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import DataError, Example

PLAIN = ToyboxConfig(seed=4, count=4, image_size=64, identity_size=32, max_subjects=3)


def everything(example: Example) -> list:
    arrays = [example.target, *example.identities]
    facts = [example.key, example.prompt_full, example.prompt_background]
    for subject in example.subjects:
        arrays += [subject.mask, subject.depth]
        facts += [subject.camera, subject.box2d, subject.box3d, subject.caption]
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays] + facts


@pytest.fixture
def cached(tmp_path):
    return dataclasses.replace(PLAIN, cache=str(tmp_path / "cache"))


def forbid_rendering(monkeypatch):
    def render(self, index):
        raise AssertionError(f"example {index} was rendered again")

    monkeypatch.setattr(ToyboxSource, "render", render)


def test_cached_examples_equal_rendered_ones(cached, monkeypatch):
    rendered = [everything(example) for example in ToyboxSource(PLAIN)]
    assert [everything(example) for example in ToyboxSource(cached)] == rendered
    forbid_rendering(monkeypatch)
    again = pickle.loads(pickle.dumps(ToyboxSource(cached)))
    assert [everything(example) for example in again] == rendered


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_entry_is_rendered_again(cached, damage, caplog, monkeypatch):
    source = ToyboxSource(cached)
    expected = everything(source[2])
    path = ExampleCache(cached).path(2)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "other": b"not an archive at all",
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert everything(source[2]) == expected
    assert "damaged" in caplog.text
    forbid_rendering(monkeypatch)
    assert everything(source[2]) == expected


def test_no_partial_files_stay(cached, tmp_path):
    list(ToyboxSource(cached))
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {path.suffix for path in files} == {".npz"}


def test_configs_with_other_pictures_have_other_folders(cached):
    changes = [{"seed": 5}, {"split": "test"}, {"image_size": 96}, {"max_subjects": 2}, {"same_colour": True}]
    keys = {cache_key(cached), *(cache_key(dataclasses.replace(cached, **change)) for change in changes)}
    assert len(keys) == len(changes) + 1
    assert cache_key(dataclasses.replace(cached, count=9, cache="elsewhere")) == cache_key(cached)
    assert cache_key(dataclasses.replace(cached, image_size=(64, 64))) == cache_key(cached)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    source = ToyboxSource(dataclasses.replace(PLAIN, cache=str(blocked)))
    with pytest.raises(DataError, match="choose another folder"):
        source[0]


def test_arrays_from_the_cache_can_be_written_to(cached):
    ToyboxSource(cached)[0]
    example = ToyboxSource(cached)[0]
    example.target[0, 0] = 0
    assert isinstance(example.subjects[0].depth[0, 0], np.float32)
