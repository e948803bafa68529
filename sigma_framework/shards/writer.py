"""Writing shards: whole or not at all, and the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_framework.shards.encoding import EncodedSample
from sigma_framework.shards.layout import FORMAT_VERSION, INDEX_SUFFIX, MANIFEST, require_shard_name, scan_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard as the manifest lists it."""

    file: str
    """Name in the set's folder."""
    bytes: int
    """Of the tar file."""
    sha256: str
    """Of the tar file."""
    index_sha256: str
    """Of its index."""
    samples: int
    """How many."""
    members: Mapping[str, tuple[int, str]]
    """Bytes and SHA-256 by member."""


def write_shard(folder: Path, file: str, samples: Sequence[EncodedSample]) -> ShardEntry:
    """Writes ``file`` and its index; each appears whole or not at all.

    Raises:
        DataError: ``file`` is not a shard's name, or a key is not one.
    """
    import webdataset

    require_shard_name(file)
    buffer = io.BytesIO()
    # A whole number: 0.0 would be written as an extra PAX member before each member.
    with webdataset.TarWriter(buffer, encoder=False, mtime=0, user="sigma", group="sigma") as tar:
        for sample in samples:
            tar.write({"__key__": sample.key, **sample.members})
    content = buffer.getvalue()
    rows: list[dict[str, Any]] = []
    hashes: dict[str, tuple[int, str]] = {}
    for members, sample in zip(scan_samples(buffer, file), samples, strict=True):
        for member in members:
            data = content[member.offset : member.offset + member.size]
            hashes[member.name] = (member.size, hashlib.sha256(data).hexdigest())
        rows.append(
            {
                "key": sample.key,
                "subjects": sample.subjects,
                "size": [sample.size_hw[1], sample.size_hw[0]],
                "members": {member.name: [member.offset, member.size] for member in members},
            }
        )
    index = as_json({"version": FORMAT_VERSION, "shard": file, "samples": rows})
    replace_file(folder / file, content)
    replace_file(folder / f"{file}{INDEX_SUFFIX}", index)
    return ShardEntry(
        file=file,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        index_sha256=hashlib.sha256(index).hexdigest(),
        samples=len(rows),
        members=hashes,
    )


def write_manifest(folder: Path, entries: Sequence[ShardEntry], facts: Mapping[str, Any]) -> Path:
    """Writes the manifest, which says that the set is finished; ``facts`` go beside the list of shards."""
    shards = [
        {
            "file": entry.file,
            "bytes": entry.bytes,
            "sha256": entry.sha256,
            "index_sha256": entry.index_sha256,
            "samples": entry.samples,
            "members": {name: list(facts) for name, facts in entry.members.items()},
        }
        for entry in entries
    ]
    samples = sum(entry.samples for entry in entries)
    path = folder / MANIFEST
    replace_file(path, as_json({"version": FORMAT_VERSION, "samples": samples, **facts, "shards": shards}))
    return path


def as_json(data: Mapping[str, Any]) -> bytes:
    """One document as UTF-8 text with a line per top-level entry's first item; keys in their order."""
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def replace_file(path: Path, content: bytes) -> None:
    """The old content or the new one, never a part; survives the loss of power where the system keeps its word."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
