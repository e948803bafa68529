"""Makes a data set: records from a source, through annotators, into SIGMA-SET shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sigma_framework.errors import DataError
from sigma_framework.progress import Progress
from sigma_framework.protocols import Annotator, DataSource
from sigma_framework.shards import Encoding, ShardEntry, encode_record, plain_box, write_manifest, write_shard
from sigma_framework.types import Example

SAMPLES_PER_SHARD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What is built, from a recipe."""

    source: DataSource
    """Where records start."""
    annotators: Mapping[str, Annotator]
    """In order, by the recipe's names."""
    count: int
    """Records taken from the source; filters may leave fewer."""
    seed: int
    """Of the annotators' randomness."""


def run_build(work: Build, folder: Path, progress: Progress) -> Mapping[str, int]:
    """Writes ``shards/*.tar`` and ``shards/manifest.json``; returns counts of records read, kept and shards.

    Raises:
        DataError: the source is shorter than asked for, or the annotators left nothing.
    """
    if len(work.source) < work.count:
        raise DataError(f"build.count: found {len(work.source)} examples in the source, expected {work.count} or more")
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    progress.begin("records", work.count)
    entries = _write_shards(_records(work, progress), shards)
    progress.finish()
    kept = sum(entry.samples for entry in entries)
    if kept == 0:
        raise DataError(f"the annotators {', '.join(work.annotators)} left none of {work.count} records")
    write_manifest(shards, entries, {"read": work.count})
    return {"read": work.count, "kept": kept, "shards": len(entries)}


def record_of(example: Example) -> dict[str, Any]:
    """An example as an annotator's record: arrays and plain data by name."""
    depths = [subject.depth for subject in example.subjects]
    return {
        "key": example.key,
        "target": example.target,
        "identities": list(example.identities),
        "masks": np.stack([subject.mask for subject in example.subjects]),
        "depth": None if any(depth is None for depth in depths) else _merged(example),
        "boxes_xyxy": [list(subject.box2d) for subject in example.subjects],
        "boxes_3d": [None if subject.box3d is None else plain_box(subject.box3d) for subject in example.subjects],
        "camera": {name: getattr(example.subjects[0].camera, name) for name in ("fx", "fy", "cx", "cy")},
        "captions": [subject.caption for subject in example.subjects],
        "prompt_full": example.prompt_full,
        "prompt_background": example.prompt_background,
        "per_subject": ["identities", "boxes_3d"],
    }


def _records(work: Build, progress: Progress) -> Iterator[Mapping[str, Any]]:
    for index in range(work.count):
        batch: Sequence[Mapping[str, Any]] = [record_of(work.source[index])]
        for place, annotator in enumerate(work.annotators.values()):
            batch = list(annotator.annotate(batch, np.random.default_rng((work.seed, place, index))))
        yield from batch
        progress.advance()


def _write_shards(records: Iterator[Mapping[str, Any]], folder: Path) -> list[ShardEntry]:
    entries: list[ShardEntry] = []
    while batch := list(islice(records, SAMPLES_PER_SHARD)):
        first = len(entries) * SAMPLES_PER_SHARD
        samples = [encode_record(record, f"{first + at:08d}", Encoding()) for at, record in enumerate(batch)]
        entries.append(write_shard(folder, f"{len(entries):05d}.tar", samples))
    return entries


def _merged(example: Example) -> Any:
    """(H, W) metres over all subjects, 0 elsewhere; visible masks do not overlap."""
    depth = np.zeros(example.target.shape[:2], np.float32)
    for subject in example.subjects:
        if subject.depth is not None:
            depth[subject.mask] = subject.depth[subject.mask]
    return depth
