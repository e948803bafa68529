"""Encoded once: by content and encoder, bounded, and never trusted when damaged."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sigma_framework import TextTokens
from sigma_framework.testing import TinyBackbone, toy_example
from sigma_framework.testing.tiny_backbone import TinyConfig
from sigma_framework.training.encoding_cache import REST_AFTER, EncodingCache

EXAMPLES = [toy_example(2, size_hw=(32, 32), seed=seed) for seed in range(3)]
PICTURES = [example.target for example in EXAMPLES]


def made(folder: Path, limit: int = 10**9, backbone: TinyBackbone | None = None) -> EncodingCache:
    return EncodingCache(folder, backbone or TinyBackbone(), limit)


def test_what_comes_from_the_disk_is_what_was_encoded(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    tokens, text = first.images(PICTURES, "target"), first.prompts(["a ball", "a cone"])
    assert first.encoded == 5
    again, text_again = second.images(PICTURES, "target"), second.prompts(["a ball", "a cone"])
    assert second.encoded == 0
    assert torch.equal(tokens.values, again.values)
    assert torch.equal(tokens.ids, again.ids)
    assert torch.equal(text.values, text_again.values)
    single = [TinyBackbone().encode_prompt([one]).values for one in ("a ball", "a cone")]
    assert torch.equal(text.values, torch.cat(single))


def test_the_role_belongs_to_the_content(tmp_path: Path) -> None:
    cache = made(tmp_path)
    target, identity = cache.images(PICTURES[:1], "target"), cache.images(PICTURES[:1], "identity")
    assert cache.encoded == 2
    assert not torch.equal(target.ids, identity.ids)


def test_another_encoder_never_meets_old_entries(tmp_path: Path) -> None:
    made(tmp_path).prompts(["a ball"])
    other = made(tmp_path, backbone=TinyBackbone(TinyConfig(width=16)))
    assert other.prompts(["a ball"]).values.shape[-1] == 16
    assert other.encoded == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    good = made(tmp_path).images(PICTURES[:1], "target")
    (path,) = tmp_path.glob("*/*/*.tensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": bytes(data[:-9]), "flip": bytes(data), "empty": b""}[damage])
    cache = made(tmp_path)
    assert torch.equal(cache.images(PICTURES[:1], "target").values, good.values)
    assert cache.encoded == 1
    assert made(tmp_path).images(PICTURES[:1], "target").values.shape == good.values.shape


def test_a_full_cache_grows_no_more_and_still_answers(tmp_path: Path) -> None:
    made(tmp_path).images(PICTURES[:1], "target")
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.tensors"))
    full = made(tmp_path, limit=size + 10)
    assert full.images(PICTURES, "target").values.shape[0] == 3
    assert full.encoded == 2
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == size


def test_a_full_cache_says_so_and_whose_it_is(tmp_path: Path) -> None:
    made(tmp_path, backbone=TinyBackbone(TinyConfig(width=16))).prompts(["a ball"])
    cache = made(tmp_path, limit=1)
    assert cache.remark() == ""
    cache.prompts(["a ball"])
    told = (
        r"is full \(0 GB of this encoder, .*e-07 GB of others, train.cache_gb is 1e-09\).*the folders beside \w{16} are"
    )
    assert re.search(told, cache.remark())


def test_processes_that_fill_it_together_keep_the_limit(tmp_path: Path) -> None:
    """Each sees what the others added."""
    pictures = [toy_example(1, size_hw=(32, 32), seed=seed).target for seed in range(48)]
    made(tmp_path / "one").images(pictures[:1], "target")
    (entry,) = (path.stat().st_size for path in tmp_path.rglob("*.tensors"))
    several = [made(tmp_path / "many", limit=20 * entry) for _ in range(4)]
    for number, picture in enumerate(pictures):
        several[number % 4].images([picture], "target")
    assert 18 <= len(list((tmp_path / "many").rglob("*.tensors"))) <= 20 + 3


def test_what_a_killed_process_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    made(tmp_path).images(PICTURES[:1], "target")
    (path,) = tmp_path.glob("*/*/*.tensors")
    old, fresh = (path.with_name(f".{name}.tensors.77") for name in ("old", "fresh"))
    for one in (old, fresh):
        one.write_bytes(b"half")
    os.utime(old, (1, 1))
    made(tmp_path).images(PICTURES, "target")
    assert (old.exists(), fresh.exists()) == (False, True)


def test_a_folder_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert made(tmp_path / "file").images(PICTURES, "target").values.shape[0] == 3


class Placing(TinyBackbone):
    """Writes down when its text encoders are to rest and when they work."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def to(self, device: torch.device | str) -> None:
        self.told.append(f"to {device}")

    def rest_text_encoders(self) -> None:
        if self.told[-1:] != ["rest"]:
            self.told.append("rest")

    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        self.told.append("encode")
        return super().encode_prompt(prompts)


def test_text_encoders_rest_while_all_prompts_are_found(tmp_path: Path) -> None:
    made(tmp_path).prompts(["a ball", "a cone"])
    backbone = Placing()
    cache = made(tmp_path, backbone=backbone)
    cache.prompts(["a ball"])
    assert backbone.told == ["encode"], "the probe; nobody said that they may rest"
    cache.rests_encoders = True
    cache.prompts(["a ball"])
    assert backbone.told == ["encode", "rest"], "a cache that has the first prompt may well have all"
    cache.prompts(["a ball", "a cube"])
    for _ in range(REST_AFTER - 1):
        cache.prompts(["a ball"])
    assert backbone.told == ["encode", "rest", "encode"], "one was missing, others may be too"
    cache.prompts(["a cone"])
    assert backbone.told == ["encode", "rest", "encode", "rest"]
