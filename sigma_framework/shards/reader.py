"""Reading a set: its lists from small files, its samples by their place in a tar file, every member by its hash."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_framework.errors import DataError, Problem
from sigma_framework.shards.document import parse_json
from sigma_framework.shards.encoding import DecodedSample, decode_sample
from sigma_framework.shards.layout import (
    BLOCK,
    FORMAT_VERSION,
    INDEX_SUFFIX,
    MANIFEST,
    SUFFIXES,
    Member,
    padded,
    read_header,
    require_shard_name,
    split_name,
)
from sigma_framework.shards.places import SetPlace, open_place


@dataclass(frozen=True, slots=True, eq=False)
class _Shard:
    file: str
    bytes: int
    first: int
    """Number of its first sample in the set."""
    keys: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    """Per sample, the five member names in tar order."""
    offsets: NDArray[np.int64]
    """(samples, 5)"""
    lengths: NDArray[np.int64]
    """(samples, 5)"""
    hashes: NDArray[np.uint8]
    """(samples, 5, 32) SHA-256."""
    subjects: NDArray[np.int64]
    """(samples,)"""
    sizes: NDArray[np.int64]
    """(samples, 2) height, width."""


class ShardSet:
    """A finished set of shards with random access; can be pickled and holds no open file.

    Args:
        path: a local folder, or the URL of one that fsspec reads (``s3://``, ``hf://``, ``https://`` ...).
        cache: local folder for the shards of a URL; None is ``~/.cache/sigma_framework/shards``.

    Raises:
        DataError: no finished set is there, or its lists contradict one another.
    """

    def __init__(self, path: str | Path, cache: str | Path | None = None) -> None:
        self.place: SetPlace = open_place(path, cache)
        manifest = _read_manifest(self.place)
        self._shards = _read_shards(self.place, manifest)
        self._firsts = np.array([shard.first for shard in self._shards], np.int64)
        self.facts: Mapping[str, Any] = {key: value for key, value in manifest.items() if key != "shards"}
        """What the manifest says of the whole set."""
        self.file_hashes: Mapping[str, str] = {entry["file"]: entry["sha256"] for entry in manifest["shards"]}
        """SHA-256 of each shard's file."""
        self._renewed: set[str] = set()

    def __len__(self) -> int:
        return sum(len(shard.keys) for shard in self._shards)

    @property
    def files(self) -> tuple[str, ...]:
        """File names of the shards."""
        return tuple(shard.file for shard in self._shards)

    @property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        """Names of each sample's members without its key, e.g. ``target.jpg``; from the indexes."""
        return tuple(
            tuple(name.removeprefix(f"{key}.") for name in names)
            for shard in self._shards
            for key, names in zip(shard.keys, shard.names, strict=True)
        )

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) subjects per sample, from the indexes."""
        return np.concatenate([shard.subjects for shard in self._shards])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) height and width per sample, from the indexes."""
        return np.concatenate([shard.sizes for shard in self._shards])

    def key(self, index: int) -> str:
        """``shard/key`` of a sample, for messages."""
        shard, at = self._locate(index)
        return f"{shard.file}/{shard.keys[at]}"

    def members(self, index: int) -> dict[str, tuple[str, bytes]]:
        """(suffix, content) by part of one sample, after headers and hashes were found right.

        A copy in which a sample is damaged is fetched once more: the damage may be the copy's own.

        Raises:
            IndexError: no such sample.
            DataError: the sample is damaged.
        """
        shard, at = self._locate(index)
        try:
            return self._members(shard, at)
        except DataError:
            if shard.file in self._renewed or not self.place.renew(shard.file):
                raise
        self._renewed.add(shard.file)
        return self._members(shard, at)

    def _members(self, shard: _Shard, at: int) -> dict[str, tuple[str, bytes]]:
        first = int(shard.offsets[at, 0]) - BLOCK
        end = int(shard.offsets[at, -1]) + padded(int(shard.lengths[at, -1]))
        content = self.place.read(shard.file, first, end - first, shard.bytes)
        found: dict[str, tuple[str, bytes]] = {}
        for number, name in enumerate(shard.names[at]):
            start, size = int(shard.offsets[at, number]) - first, int(shard.lengths[at, number])
            member = read_header(content[start - BLOCK : start], first + start - BLOCK, shard.file)
            _require_same(member, name, size, shard.file)
            data = content[start : start + size]
            if hashlib.sha256(data).digest() != shard.hashes[at, number].tobytes():
                raise DataError(f"{shard.file}: {name}: hash differs from the manifest's; the member is damaged")
            if any(content[start + size : start + padded(size)]):
                raise DataError(f"{shard.file}: {name}: found data in the padding; the shard is damaged")
            found[member.part] = (name.rpartition(".")[2], data)
        return found

    def sample(self, index: int) -> DecodedSample:
        """One sample, decoded.

        Raises:
            IndexError: no such sample.
            DataError: it is damaged, or not what the index says.
        """
        return self.decoded(index, self.members(index))

    def decoded(self, index: int, members: Mapping[str, tuple[str, bytes]]) -> DecodedSample:
        """What the members of a sample hold, which must be what the index says.

        Raises:
            DataError: it is not.
        """
        shard, at = self._locate(index)
        place = f"{shard.file}/{shard.keys[at]}"
        decoded = decode_sample(members, place)
        document = decoded.document
        subjects, (height, width) = int(shard.subjects[at]), shard.sizes[at].tolist()
        if len(document.subjects) != subjects or document.size != (width, height):
            raise DataError(
                f"{place}: found {len(document.subjects)} subjects, size {list(document.size)}; the index says "
                f"{subjects}, {[width, height]}"
            )
        return decoded

    def _locate(self, index: int) -> tuple[_Shard, int]:
        at = operator.index(index)
        if not 0 <= at < len(self):
            raise IndexError(f"the set has {len(self)} samples, asked for {at}")
        shard = self._shards[int(np.searchsorted(self._firsts, at, side="right")) - 1]
        return shard, at - shard.first


def _require_same(member: Member, name: str, size: int, shard: str) -> None:
    if member.name != name or member.size != size:
        raise DataError(
            f"{shard}: found member {member.name} of {member.size} bytes, the index says {name} of {size} bytes"
        )


def _read_manifest(place: SetPlace) -> dict[str, Any]:
    try:
        content = place.read_small(MANIFEST)
    except FileNotFoundError as error:
        if (Path(str(place)) / "shards" / MANIFEST).is_file():
            raise DataError(f"{place}: no {MANIFEST}, but its folder shards has one; give {place}/shards") from error
        raise DataError(
            f"{place}: no {MANIFEST}; the set is unfinished or not a SIGMA-SET; finish its build, or make one of other "
            "tar files with sigma-data convert"
        ) from error
    name = f"{place}/{MANIFEST}"
    data = parse_json(content, name)
    if not isinstance(data, dict) or not isinstance(data.get("shards"), list):
        raise DataError(f"{name}: expected a map with a list of shards")
    if data.get("version") != FORMAT_VERSION:
        raise DataError(f"{name}: found version {data.get('version')!r}, expected {FORMAT_VERSION}")
    return data


def _read_shards(place: SetPlace, manifest: dict[str, Any]) -> tuple[_Shard, ...]:
    shards: list[_Shard] = []
    problems: list[Problem] = []
    first = 0
    for number, entry in enumerate(manifest["shards"]):
        try:
            shard = _read_shard(place, entry, first)
        except (DataError, LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
            what = error.message if isinstance(error, DataError) else f"not as the format says ({error!r})"
            problems.append(Problem(f"shards[{number}]", what))
            continue
        if shard.file in {other.file for other in shards}:
            problems.append(Problem(f"shards[{number}]", f"{shard.file} is listed twice"))
        shards.append(shard)
        first += len(shard.keys)
    if not problems and manifest.get("samples") != first:
        problems.append(Problem("samples", f"found {manifest.get('samples')!r}, the indexes hold {first}"))
    if not problems and first == 0:
        problems.append(Problem("shards", "the set is empty"))
    if problems:
        raise DataError(f"{place}/{MANIFEST}", problems)
    return tuple(shards)


def _read_shard(place: SetPlace, entry: Mapping[str, Any], first: int) -> _Shard:
    file = require_shard_name(str(entry["file"]))
    name = f"{file}{INDEX_SUFFIX}"
    try:
        content = place.read_small(name)
    except FileNotFoundError as error:
        raise DataError(f"{name}: missing") from error
    if hashlib.sha256(content).hexdigest() != entry["index_sha256"]:
        raise DataError(f"{name}: hash differs from the manifest's")
    index = parse_json(content, name)
    rows = list(index["samples"])
    hashes = dict(entry["members"])
    if index["shard"] != file or len(rows) != entry["samples"] or len(hashes) != len(rows) * len(SUFFIXES):
        raise DataError(f"{name}: does not fit the manifest")
    spans, digests, names = _member_table(name, rows, hashes, int(entry["bytes"]))
    sizes = np.array([[int(row["size"][1]), int(row["size"][0])] for row in rows], np.int64).reshape(-1, 2)
    subjects = np.array([int(row["subjects"]) for row in rows], np.int64)
    if (subjects < 1).any() or (sizes < 1).any() or not isinstance(entry["sha256"], str):
        raise DataError(f"{name}: a sample has no subjects or no size")
    keys = tuple(str(row["key"]) for row in rows)
    offsets, lengths = spans[:, :, 0], spans[:, :, 1]
    return _Shard(file, int(entry["bytes"]), first, keys, names, offsets, lengths, digests, subjects, sizes)


def _member_table(
    name: str, rows: list[Mapping[str, Any]], hashes: Mapping[str, tuple[int, str]], length: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8], tuple[tuple[str, ...], ...]]:
    """(samples, 5, 2) offsets and sizes, (samples, 5, 32) hashes, and names; raises where the lists disagree."""
    spans = np.zeros((len(rows), len(SUFFIXES), 2), np.int64)
    digests = np.zeros((len(rows), len(SUFFIXES), 32), np.uint8)
    names = []
    for at, row in enumerate(rows):
        own = tuple(row["members"])
        if [split_name(member) for member in own] != [(row["key"], part) for part in SUFFIXES]:
            raise DataError(f"{name}: sample {at} has not the five members of its key")
        names.append(own)
        for number, member in enumerate(own):
            offset, size = row["members"][member]
            listed, digest = hashes[member]
            if size != listed or not BLOCK <= offset <= length - size or size <= 0:
                raise DataError(f"{name}: {member} does not fit into the shard")
            spans[at, number] = offset, size
            digests[at, number] = np.frombuffer(bytes.fromhex(digest), np.uint8)
        ends = [int(offset) + padded(int(size)) + BLOCK for offset, size in spans[at]]
        if ends[:-1] != spans[at, 1:, 0].tolist():
            raise DataError(f"{name}: members of sample {at} do not follow one another")
    return spans, digests, tuple(names)
