"""Sets in another form: other encodings or shard sizes, and bare tar files given an index and a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from sigma_framework.errors import DataError, Problem
from sigma_framework.shards import (
    MANIFEST,
    DecodedSample,
    Encoding,
    ShardEntry,
    ShardSet,
    decode_sample,
    encode_record,
    write_manifest,
    write_shard,
)
from sigma_framework.shards.layout import scan_samples


def convert_set(
    source: str | Path,
    target: Path,
    encoding: Encoding,
    per_shard: int,
    cache: str | Path | None = None,
    on_sample: Callable[[], None] = lambda: None,
) -> int:
    """Writes the samples of ``source`` as a new set; returns how many.

    Args:
        source: a finished set, or a local folder of tar files whose samples have the five members.
        target: a folder that does not exist yet; it appears when all is written.
        encoding: of the new pictures.
        per_shard: samples in a shard.
        cache: as for ``ShardSet``.
        on_sample: called after each sample.

    Raises:
        DataError: the target exists, the source has no sample, or some of it is damaged; then nothing is written.
    """
    if target.exists():
        raise DataError(f"{target}: exists already; choose another folder")
    bare = Path(source).is_dir() and not (Path(source) / MANIFEST).exists()
    problems: list[Problem] = []
    samples = _bare_samples(Path(source), problems) if bare else _finished_samples(ShardSet(source, cache), problems)
    unfinished = target.with_name(f".{target.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        entries: list[ShardEntry] = []
        while batch := list(islice(samples, per_shard)):
            first = len(entries) * per_shard
            records = [encode_record(sample.record(), f"{first + k:08d}", encoding) for k, sample in enumerate(batch)]
            entries.append(write_shard(unfinished, f"{len(entries):05d}.tar", records))
            for _ in batch:
                on_sample()
        if problems or not entries:
            raise DataError(f"{source}: {'damaged' if problems else 'no sample found'}; nothing was written", problems)
        write_manifest(unfinished, entries, {})
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sum(entry.samples for entry in entries)


def _finished_samples(shards: ShardSet, problems: list[Problem]) -> Iterator[DecodedSample]:
    for index in range(len(shards)):
        try:
            yield shards.sample(index)
        except DataError as error:
            problems.append(Problem(shards.key(index), error.render()))


def _bare_samples(folder: Path, problems: list[Problem]) -> Iterator[DecodedSample]:
    for path in sorted(folder.glob("*.tar")):
        try:
            with path.open("rb") as shard:
                for members in scan_samples(shard, path.name):
                    content = {}
                    for member in members:
                        shard.seek(member.offset)
                        content[member.part] = (member.name.rpartition(".")[2], shard.read(member.size))
                    yield decode_sample(content, f"{path.name}/{members[0].key}")
        except DataError as error:
            problems.append(Problem(path.name, error.render()))
        except OSError as error:
            problems.append(Problem(path.name, f"cannot be read ({error.strerror or error})"))
