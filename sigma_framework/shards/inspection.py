"""Looking through a whole set: every byte of every shard, every sample decoded, and numbers of what is in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sigma_framework.errors import DataError, Problem
from sigma_framework.shards.document import ShardDocument
from sigma_framework.shards.layout import MANIFEST, scan_samples, shown_name
from sigma_framework.shards.reader import ShardSet

Value = TypeVar("Value", bound=Any)


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
    with_boxes_3d: int
    """Subjects with an oriented 3D box."""
    forms: Mapping[str, int]
    """Samples by their members, e.g. ``depth.png identities.webp json masks.png target.jpg``."""
    per_depth: Mapping[str, int]
    """Sound samples by the kind of their depth, ``none`` included."""
    per_masks: Mapping[str, int]
    """Sound samples by what their masks show, ``visible`` or ``whole``."""
    per_licence: Mapping[str, int]
    """Sound samples by licence; empty where none is told."""
    damaged: tuple[str, ...]
    """``shard/key`` of samples that cannot be read."""
    problems: tuple[Problem, ...]
    """Everything that is wrong."""

    @property
    def with_depth(self) -> int:
        """Sound samples with a depth picture."""
        return sum(number for kind, number in self.per_depth.items() if kind != "none")


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
    forms = Counter(" ".join(form) for form in shards.forms)
    problems = [*_list_problems(shards, forms), *(p for file in shards.files for p in _shard_problems(shards, file))]
    sound, damaged = _Tally(), []
    for index in range(len(shards)):
        try:
            sound.add(shards.sample(index).document)
        except DataError as error:
            damaged.append(shards.key(index))
            problems += [Problem(shards.key(index), error.render())]
        on_sample()
    return SetReport(
        samples=len(shards),
        shards=len(shards.files),
        per_subjects=_sorted(sound.subjects),
        per_size=_sorted(sound.sizes),
        with_boxes_3d=sound.boxes_3d,
        forms=_sorted(forms),
        per_depth=_sorted(sound.depth),
        per_masks=_sorted(sound.masks),
        per_licence=_sorted(sound.licences),
        damaged=tuple(damaged),
        problems=tuple(problems),
    )


@dataclass(slots=True)
class _Tally:
    """What is in the sound samples so far."""

    subjects: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    depth: Counter[str] = field(default_factory=Counter)
    masks: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    boxes_3d: int = 0

    def add(self, document: ShardDocument) -> None:
        self.subjects[len(document.subjects)] += 1
        self.sizes[document.size] += 1
        self.depth[document.depth.kind if document.depth else "none"] += 1
        self.masks[document.masks] += 1
        self.licences[document.licence] += 1
        self.boxes_3d += sum(subject.box3d is not None for subject in document.subjects)


def _sorted(counts: Counter[Value]) -> dict[Value, int]:
    return dict(sorted(counts.items()))


def _list_problems(shards: ShardSet, forms: Mapping[str, int]) -> list[Problem]:
    """Where the lists and what lies in the folder differ, and sets that other readers would refuse."""
    listed = frozenset(shards.files)
    found = shards.place.tar_files()
    found = listed if found is None else found
    problems = []
    if found != listed:
        extra, missing = sorted(found - listed), sorted(listed - found)
        what = f"the folder has {len(extra)} tar files that it does not list ({_few(extra)}) and lacks {len(missing)} "
        problems.append(Problem(MANIFEST, f"{what}that it does ({_few(missing)})", "build or convert the set again"))
    if len(forms) > 1:
        told = "; ".join(f"{number} of {form}" for form, number in forms.items())
        remedy = "sigma-data convert with --target and --identities makes them alike"
        problems.append(Problem("", f"samples have different members, which HF datasets refuses: {told}", remedy))
    return problems


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(shown_name, names[:3])) + (", ..." if len(names) > 3 else "") or "none"


def _shard_problems(shards: ShardSet, file: str) -> list[Problem]:
    """What is wrong with a shard; with a copy, after it was fetched once more."""
    problems = _file_problems(shards, file)
    if problems and shards.place.renew(file):
        problems = _file_problems(shards, file)
    return problems


def _file_problems(shards: ShardSet, file: str) -> list[Problem]:
    """Damage anywhere in the file: also in headers, padding and the end, which reading a sample does not touch."""
    try:
        with shards.place.local(file).open("rb") as shard:
            problems = _structure_problems(shard, file)
            shard.seek(0)
            if hashlib.file_digest(shard, "sha256").hexdigest() != shards.file_hashes[file]:
                problems.append(Problem(file, "hash differs from the manifest's; the shard is damaged"))
            return problems
    except DataError as error:
        return [Problem(file, error.message)]
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
