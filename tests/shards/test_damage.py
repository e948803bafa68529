"""Damage is noticed always: flips, cuts, members swapped, dropped, doubled; and the reader never gives other data.

``SIGMA_SOAK=1`` (``make soak``) runs the full numbers.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_framework import ShardSet, SigmaError
from sigma_framework.shards import Encoding, check_set, decode_sample, encode_record
from sigma_framework.shards.writer import as_json
from sigma_framework.testing import toy_shards

SOAK = os.environ.get("SIGMA_SOAK") == "1"
FLIPS, CUTS, CHANGES = (2000, 500, 200) if SOAK else (150, 40, 30)
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_shards(tmp_path_factory.mktemp("sound"), samples=3, per_shard=3, size=16)


@pytest.fixture
def spoilt(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


@pytest.fixture(scope="module")
def originals(sound: Path) -> list[dict[str, tuple[str, bytes]]]:
    shards = ShardSet(sound)
    return [shards.members(index) for index in range(len(shards))]


def noticed(folder: Path, originals: list[dict[str, tuple[str, bytes]]]) -> bool:
    """Whether ``check_set`` finds something wrong; fails when the reader gives anything but the original."""
    try:
        shards = ShardSet(folder)
        for index, original in enumerate(originals):
            try:
                found = shards.members(index)
            except SigmaError:
                continue
            assert found == original, f"sample {index} is silently different"
        return bool(check_set(folder).problems)
    except SigmaError:
        return True


def test_a_sound_set_is_clean(sound: Path, originals: list[dict[str, tuple[str, bytes]]]) -> None:
    assert not noticed(sound, originals)
    report = check_set(sound)
    assert (report.samples, report.shards, report.with_depth) == (3, 1, 3)
    assert report.per_subjects == {1: 1, 2: 1, 3: 1}


def test_every_flipped_byte_is_noticed(spoilt: Path, originals: list[dict[str, tuple[str, bytes]]]) -> None:
    shard = spoilt / "00000.tar"
    content = shard.read_bytes()
    rng = np.random.default_rng(0)
    missed = []
    for place in rng.integers(0, len(content), FLIPS):
        broken = bytearray(content)
        broken[place] ^= int(rng.integers(1, 256))
        shard.write_bytes(broken)
        if not noticed(spoilt, originals):
            missed.append(int(place))
    assert missed == []


def test_flips_in_the_lists_are_noticed_or_harmless(
    spoilt: Path, originals: list[dict[str, tuple[str, bytes]]]
) -> None:
    rng = np.random.default_rng(1)
    for name in ("manifest.json", "00000.tar.idx.json"):
        content = (spoilt / name).read_bytes()
        for place in rng.integers(0, len(content), FLIPS // 3):
            broken = bytearray(content)
            broken[place] ^= int(rng.integers(1, 256))
            (spoilt / name).write_bytes(broken)
            noticed(spoilt, originals)  # a changed space is no damage; other data would fail in here
        (spoilt / name).write_bytes(content)


def test_every_cut_is_noticed(spoilt: Path, originals: list[dict[str, tuple[str, bytes]]]) -> None:
    shard = spoilt / "00000.tar"
    content = shard.read_bytes()
    for length in np.random.default_rng(2).integers(0, len(content), CUTS):
        shard.write_bytes(content[:length])
        assert noticed(spoilt, originals), f"cut after {length} of {len(content)} bytes"


def test_members_swapped_dropped_and_doubled_are_noticed(
    spoilt: Path, originals: list[dict[str, tuple[str, bytes]]]
) -> None:
    shard = spoilt / "00000.tar"
    members = read_members(shard)
    rng = np.random.default_rng(3)
    for number in range(CHANGES):
        changed = list(members)
        one, other = rng.choice(len(members), 2, replace=False)
        if number % 4 == 0:  # contents change places, names stay
            swapped = members[other][1]
            changed[one] = (resized(members[one][0], len(swapped)), swapped)
        elif number % 4 == 1:
            changed[one], changed[other] = changed[other], changed[one]
        elif number % 4 == 2:
            del changed[one]
        else:
            changed.insert(int(other), members[one])
        shard.write_bytes(tar_of(changed))
        assert noticed(spoilt, originals), f"change {number} of {members[one][0].name}"


@pytest.mark.parametrize(
    "change", ["file", "twice", "version", "samples", "hash", "index", "offset", "subjects", "size", "members"]
)
def test_lists_that_lie_are_refused(spoilt: Path, change: str) -> None:
    manifest = json.loads((spoilt / "manifest.json").read_text())
    index = json.loads((spoilt / "00000.tar.idx.json").read_text())
    entry, row = manifest["shards"][0], index["samples"][1]
    if change == "file":
        entry["file"] = "../00000.tar"
    elif change == "twice":
        manifest["shards"].append(entry)
    elif change == "version":
        manifest["version"] = 9
    elif change == "samples":
        manifest["samples"] = 4
    elif change == "hash":
        next(iter(entry["members"].values()))[1] = "0" * 64
    elif change == "index":
        entry["index_sha256"] = "0" * 64
    elif change == "offset":
        next(iter(row["members"].values()))[0] += 512
    elif change == "subjects":
        row["subjects"] = 9
    elif change == "size":
        row["size"] = [17, 16]
    elif change == "members":
        row["members"].popitem()
    if change in ("offset", "subjects", "size", "members"):
        text = json.dumps(index).encode()
        (spoilt / "00000.tar.idx.json").write_bytes(text)
        entry["index_sha256"] = hashlib.sha256(text).hexdigest()
    (spoilt / "manifest.json").write_text(json.dumps(manifest))
    try:
        assert check_set(spoilt).problems
    except SigmaError as error:
        assert "found" in str(error) or "hash" in str(error) or "refused" in str(error) or "manifest" in str(error)


ODD: list[Any] = [None, True, -1, 0, 10**30, 1.5, 1e308, "x", "../x", "\ud800", [], [1], [[]], {}, {"a": 1}]


def places_in(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield from places_in(data[key], (*above, key))


def changed(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of plain data with another value at one place."""
    if not place:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[place[0]] = changed(data[place[0]], place[1:], value)
    return copy


def test_whatever_the_lists_say_only_our_own_error_comes(tmp_path: Path) -> None:
    """Every value of both lists replaced by every odd one, hashes made right again; one sample holds all kinds."""
    folder = toy_shards(tmp_path / "set", samples=1, per_shard=1, size=16)
    manifest, index = (json.loads((folder / name).read_text()) for name in ("manifest.json", "00000.tar.idx.json"))
    for which, data in (("manifest", manifest), ("index", index)):
        for place in places_in(data):
            for value in ODD:
                given = changed(data, place, value)
                text = json.dumps(given if which == "index" else index).encode()
                entry = {**manifest["shards"][0], "index_sha256": hashlib.sha256(text).hexdigest()}
                lists = given if which == "manifest" else {**manifest, "shards": [entry]}
                if which == "index":
                    (folder / "00000.tar.idx.json").write_bytes(text)
                (folder / "manifest.json").write_text(json.dumps(lists))
                with contextlib.suppress(SigmaError):
                    ShardSet(folder).sample(0)
        (folder / "00000.tar.idx.json").write_bytes(as_json(index))


def test_whatever_a_document_says_only_our_own_error_comes(sound: Path) -> None:
    members = ShardSet(sound).members(1)
    document = json.loads(members["json"][1])
    for place in places_in(document):
        for value in ODD:
            text = json.dumps(changed(document, place, value)).encode()
            with contextlib.suppress(SigmaError):
                sample = decode_sample({**members, "json": ("json", text)}, "a")
                sample.example()
                encode_record(sample.record(), "a", Encoding())


def test_lists_that_cannot_be_opened_are_named(spoilt: Path) -> None:
    (spoilt / "00000.tar.idx.json").unlink()
    (spoilt / "00000.tar.idx.json").mkdir()
    with pytest.raises(SigmaError, match=r"00000\.tar\.idx\.json: cannot be read"):
        ShardSet(spoilt)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty, expected a tar file"),
        (gzip.compress(b"x" * 5000), r"is compressed \(gzip\).*decompress it"),
        (b"<html>" * 200, "is not a tar file"),
        (None, "ends early at byte .* after [1-9][0-9]? members"),
    ],
    ids=["empty", "gzip", "html", "cut"],
)
def test_what_is_no_tar_file_is_called_what_it_is(spoilt: Path, content: bytes | None, what: str) -> None:
    shard = spoilt / "00000.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2] if content is None else content)
    assert any(re.search(what, str(problem)) for problem in check_set(spoilt).problems)


def read_members(shard: Path) -> Members:
    with tarfile.open(shard) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]  # plain files


def resized(info: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    copy = tarfile.TarInfo(info.name)
    copy.size, copy.mode, copy.uname, copy.gname = size, info.mode, info.uname, info.gname
    return copy


def tar_of(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_the_reader_notices_flips_in_headers_and_padding_too(spoilt: Path) -> None:
    shard = spoilt / "00000.tar"
    content = shard.read_bytes()
    row = json.loads((spoilt / "00000.tar.idx.json").read_text())["samples"][0]
    (offset, size), *_ = row["members"].values()
    assert size % 512, "else there is no padding"
    for place in (offset - 512, offset - 400, offset + size):
        broken = bytearray(content)
        broken[place] ^= 1
        shard.write_bytes(broken)
        with pytest.raises(SigmaError):
            ShardSet(spoilt).members(0)
