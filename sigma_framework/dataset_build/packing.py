"""Finished records as shards; a shard that an earlier call wrote is not written again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sigma_framework.dataset_build.records import Record
from sigma_framework.progress import Progress
from sigma_framework.shards import (
    INDEX_SUFFIX,
    MANIFEST,
    Encoding,
    ShardEntry,
    encode_record,
    write_manifest,
    write_shard,
)
from sigma_framework.shards.writer import replace_file


def pack(
    records: Iterable[Record],
    folder: Path,
    encoding: Encoding,
    per_shard: int,
    facts: Mapping[str, Any],
    progress: Progress,
) -> list[ShardEntry]:
    """Writes ``folder/shards``; the manifest comes last. Nothing is written when there is no record."""
    shards, notes = folder / "shards", folder / "stages" / "shards"
    (shards / MANIFEST).unlink(missing_ok=True)
    shards.mkdir(parents=True, exist_ok=True)
    notes.mkdir(parents=True, exist_ok=True)
    names = [stage["name"] for stage in facts["stages"]]
    entries: list[ShardEntry] = []
    records = iter(records)
    while batch := list(islice(records, per_shard)):
        number = len(entries)
        file, first = f"{number:05d}.tar", number * per_shard
        entry = _written(shards, notes / f"{file}.json", file)
        if entry is None:
            samples = [
                encode_record(_with_stages(record, names), f"{first + at:08d}", encoding)
                for at, record in enumerate(batch)
            ]
            entry = write_shard(shards, file, samples)
            replace_file(notes / f"{file}.json", json.dumps(dataclasses.asdict(entry)).encode())
        entries.append(entry)
        progress.advance(len(batch))
    for stale in set(shards.glob("*.tar*")) - {
        shards / name for entry in entries for name in (entry.file, entry.file + INDEX_SUFFIX)
    }:
        stale.unlink()
    for left in shards.glob(".*.writing"):
        left.unlink(missing_ok=True)
    if entries:
        write_manifest(shards, entries, facts)
    return entries


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Lets one job of an array pack at a time: several may find at once that nothing is missing any more."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with (folder / "stages" / ".packing").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def _with_stages(record: Record, names: list[str]) -> Record:
    """Every sample says through which stages it went; their options are in the manifest."""
    return {**record, "provenance": {**record.get("provenance", {}), "stages": names}}


def _written(shards: Path, note: Path, file: str) -> ShardEntry | None:
    """The entry of a shard that is there whole."""
    try:
        found = json.loads(note.read_bytes())
        entry = ShardEntry(**{**found, "members": {name: tuple(facts) for name, facts in found["members"].items()}})
        whole = hashlib.sha256((shards / file).read_bytes()).hexdigest() == entry.sha256
        index = hashlib.sha256((shards / f"{file}{INDEX_SUFFIX}").read_bytes()).hexdigest() == entry.index_sha256
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return entry if whole and index else None
