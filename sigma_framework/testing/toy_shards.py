"""A small finished set of shards, to read, to damage and to compare."""

from __future__ import annotations

from pathlib import Path

from sigma_framework.dataset_build import record_of
from sigma_framework.shards import Encoding, encode_record, write_manifest, write_shard
from sigma_framework.testing.toys import ToySource


def toy_shards(
    folder: Path, samples: int = 6, per_shard: int = 4, size: int = 32, encoding: Encoding | None = None
) -> Path:
    """Writes toy examples (sample i has 1 + i % 3 subjects) as shards into ``folder``; returns it.

    Args:
        folder: is made.
        samples: how many.
        per_shard: samples in a shard.
        size: side of the targets, pixels.
        encoding: of the pictures; JPEG targets by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = ToySource(length=samples, size_hw=(size, size), identity_size=16)
    entries = []
    for number, first in enumerate(range(0, samples, per_shard)):
        indices = range(first, min(first + per_shard, samples))
        made = [encode_record(record_of(source[i]), f"{i:08d}", encoding or Encoding(target="jpg")) for i in indices]
        entries.append(write_shard(folder, f"{number:05d}.tar", made))
    write_manifest(folder, entries, {"read": samples})
    return folder
