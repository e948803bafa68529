"""Looking through a whole set: every byte of every shard, every sample decoded, and numbers of what is in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sigma_framework.errors import DataError, Problem
from sigma_framework.shards.layout import scan_samples
from sigma_framework.shards.reader import ShardSet


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """What ``sigma-data check`` found."""

    samples: int
    """As the manifest says."""
    shards: int
    """As the manifest says."""
    per_subjects: Mapping[int, int]
    """Sound samples by number of subjects."""
    per_size: Mapping[tuple[int, int], int]
    """Sound samples by (width, height)."""
    with_depth: int
    """Sound samples with a depth picture."""
    with_boxes_3d: int
    """Subjects with an oriented 3D box."""
    damaged: tuple[str, ...]
    """``shard/key`` of samples that cannot be read."""
    problems: tuple[Problem, ...]
    """Everything that is wrong."""


def check_set(
    path: str | Path, cache: str | Path | None = None, on_sample: Callable[[], None] = lambda: None
) -> SetReport:
    """Reads all of a set.

    Args:
        path: as for ``ShardSet``.
        cache: as for ``ShardSet``.
        on_sample: called after each sample.

    Raises:
        DataError: the manifest or an index cannot be used at all.
    """
    shards = ShardSet(path, cache)
    problems = [problem for file in shards.files for problem in _shard_problems(shards, file)]
    counts: Counter[int] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    with_depth = boxes = 0
    damaged = []
    for index in range(len(shards)):
        try:
            document = shards.sample(index).document
        except DataError as error:
            damaged.append(shards.key(index))
            problems += [Problem(shards.key(index), error.render())]
        else:
            counts[len(document.subjects)] += 1
            sizes[document.size] += 1
            with_depth += document.depth is not None
            boxes += sum(subject.box3d is not None for subject in document.subjects)
        on_sample()
    return SetReport(
        samples=len(shards),
        shards=len(shards.files),
        per_subjects=dict(sorted(counts.items())),
        per_size=dict(sorted(sizes.items())),
        with_depth=with_depth,
        with_boxes_3d=boxes,
        damaged=tuple(damaged),
        problems=tuple(problems),
    )


def _shard_problems(shards: ShardSet, file: str) -> list[Problem]:
    """Damage anywhere in the file: also in headers, padding and the end, which reading a sample does not touch."""
    try:
        with shards.place.local(file).open("rb") as shard:
            problems = _structure_problems(shard, file)
            shard.seek(0)
            if hashlib.file_digest(shard, "sha256").hexdigest() != shards.file_hashes[file]:
                problems.append(Problem(file, "hash differs from the manifest's; the shard is damaged"))
            return problems
    except OSError as error:
        return [Problem(file, f"cannot be read ({error.strerror or error})")]


def _structure_problems(shard: BinaryIO, file: str) -> list[Problem]:
    """Where the file stops being a shard, if it does."""
    try:
        for _ in scan_samples(shard, file):
            pass
    except DataError as error:
        return [Problem(file, error.message)]
    return []
