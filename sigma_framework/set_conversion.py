"""Sets in another form: other encodings or shard sizes, and bare tar files given an index and a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sigma_framework.errors import DataError, Problem
from sigma_framework.shards import (
    MANIFEST,
    DecodedSample,
    EncodedSample,
    ShardEntry,
    ShardSet,
    decode_sample,
    write_manifest,
    write_shard,
)
from sigma_framework.shards.layout import scan_samples
from sigma_framework.shards.pictures import picture_file

_Sample = tuple[Mapping[str, tuple[str, bytes]], DecodedSample]
"""(suffix, content) by part, and what they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a set is to be stored; what is None stays as it is, byte for byte."""

    target: Literal["png", "jpg"] | None = None
    """Of targets."""
    identities: Literal["png", "jpg", "webp"] | None = None
    """Of identity images."""
    quality: int = 95
    """Of pictures that become JPEG or WebP, 1 to 100."""
    per_shard: int = 256
    """Samples in a shard."""


def convert_set(
    source: str | Path,
    target: Path,
    form: Form,
    cache: str | Path | None = None,
    on_sample: Callable[[], None] = lambda: None,
) -> int:
    """Writes the samples of ``source`` as a new set; returns how many.

    Args:
        source: a finished set, or a local folder of tar files whose samples have the five members.
        target: a folder that does not exist yet; it appears when all is written.
        form: of the new set; how the old one was made is told on.
        cache: as for ``ShardSet``.
        on_sample: called after each sample.

    Raises:
        DataError: the target exists, the source has no sample, or some of it is damaged; then nothing is written.
    """
    if target.exists():
        raise DataError(f"{target}: exists already; choose another folder")
    problems: list[Problem] = []
    facts: dict[str, Any] = {}
    if Path(source).is_dir() and not (Path(source) / MANIFEST).exists():
        samples = _bare_samples(Path(source), problems)
    else:
        shards = ShardSet(source, cache)
        samples = _finished_samples(shards, problems)
        facts = {name: value for name, value in shards.facts.items() if name not in ("version", "samples")}
    unfinished = target.with_name(f".{target.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        entries = _write_shards(samples, unfinished, form, on_sample)
        if problems or not entries:
            raise DataError(f"{source}: {'damaged' if problems else 'no sample found'}; nothing was written", problems)
        write_manifest(unfinished, entries, facts)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sum(entry.samples for entry in entries)


def _write_shards(
    samples: Iterator[_Sample], folder: Path, form: Form, on_sample: Callable[[], None]
) -> list[ShardEntry]:
    entries: list[ShardEntry] = []
    while batch := list(islice(samples, form.per_shard)):
        first = len(entries) * form.per_shard
        encoded = [_in_form(sample, f"{first + k:08d}", form) for k, sample in enumerate(batch)]
        entries.append(write_shard(folder, f"{len(entries):05d}.tar", encoded))
        for _ in batch:
            on_sample()
    return entries


def _in_form(sample: _Sample, key: str, form: Form) -> EncodedSample:
    """Only pictures that get another form are encoded anew; even JPEG to JPEG would lose a little."""
    members, decoded = sample
    wanted = {"target": form.target, "identities": form.identities}
    pixels = {"target": decoded.target, "identities": np.concatenate(decoded.identities)}
    written: dict[str, bytes] = {}
    for part, (suffix, content) in members.items():
        new = wanted.get(part) or suffix
        name = part if part == "json" else f"{part}.{new}"
        written[name] = content if wanted.get(part) is None else picture_file(pixels[part], new, form.quality)
    count, height, width = decoded.masks.shape
    return EncodedSample(key=key, members=written, subjects=count, size_hw=(height, width))


def _finished_samples(shards: ShardSet, problems: list[Problem]) -> Iterator[_Sample]:
    for index in range(len(shards)):
        try:
            members = shards.members(index)
            yield members, shards.decoded(index, members)
        except DataError as error:
            problems.append(Problem(shards.key(index), error.render()))


def _bare_samples(folder: Path, problems: list[Problem]) -> Iterator[_Sample]:
    for path in sorted(folder.glob("*.tar")):
        try:
            with path.open("rb") as shard:
                for members in scan_samples(shard, path.name):
                    content = {}
                    for member in members:
                        shard.seek(member.offset)
                        content[member.part] = (member.name.rpartition(".")[2], shard.read(member.size))
                    yield content, decode_sample(content, f"{path.name}/{members[0].key}")
        except DataError as error:
            problems.append(Problem(path.name, error.render()))
        except OSError as error:
            problems.append(Problem(path.name, f"cannot be read ({error.strerror or error})"))
