"""Makes a data set: records from a source, through annotators, into tar shards with one fixed set of members.

Members per sample: ``KEY.target.png``, ``KEY.identities.png`` (stacked along the height, like ``I^S``),
``KEY.masks.png`` (1-bit, stacked the same way), ``KEY.depth.png`` (16-bit millimetres, 0 where unknown) and
``KEY.json``. The manifest with sizes and SHA-256 per member is written last; a folder without it is unfinished.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigma_framework.errors import DataError
from sigma_framework.progress import Progress
from sigma_framework.protocols import Annotator, DataSource
from sigma_framework.types import Example

FORMAT_VERSION = 1
SAMPLES_PER_SHARD = 256
_MILLIMETRES = 1000.0


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
    members: dict[str, dict[str, Any]] = {}
    kept = _write_shards(_records(work, progress), shards, members)
    progress.finish()
    if kept == 0:
        raise DataError(f"the annotators {', '.join(work.annotators)} left none of {work.count} records")
    manifest = {"version": FORMAT_VERSION, "read": work.count, "samples": kept, "members": members}
    (shards / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return {"read": work.count, "kept": kept, "shards": -(-kept // SAMPLES_PER_SHARD)}


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
        "boxes_3d": [_plain_box(subject.box3d) for subject in example.subjects],
        "camera": {name: getattr(example.subjects[0].camera, name) for name in ("fx", "fy", "cx", "cy")},
        "captions": [subject.caption for subject in example.subjects],
        "prompt_full": example.prompt_full,
        "prompt_background": example.prompt_background,
    }


def _records(work: Build, progress: Progress) -> Iterator[Mapping[str, Any]]:
    for index in range(work.count):
        batch: Sequence[Mapping[str, Any]] = [record_of(work.source[index])]
        for place, annotator in enumerate(work.annotators.values()):
            batch = list(annotator.annotate(batch, np.random.default_rng((work.seed, place, index))))
        yield from batch
        progress.advance()


def _write_shards(records: Iterator[Mapping[str, Any]], folder: Path, members: dict[str, dict[str, Any]]) -> int:
    count = 0
    shard: tarfile.TarFile | None = None
    try:
        for record in records:
            if count % SAMPLES_PER_SHARD == 0:
                if shard is not None:
                    shard.close()
                shard = tarfile.open(folder / f"{count // SAMPLES_PER_SHARD:05d}.tar", "w")  # noqa: SIM115  closed below
            assert shard is not None
            for name, data in _encoded(record, f"{count:08d}").items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
                members[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            count += 1
    finally:
        if shard is not None:
            shard.close()
    return count


def _encoded(record: Mapping[str, Any], key: str) -> dict[str, bytes]:
    """The five members of one sample; equal records give equal bytes."""
    masks = np.concatenate(list(record["masks"]), axis=0)
    depth = record.get("depth")
    millimetres = np.zeros(record["target"].shape[:2], np.uint16)
    if depth is not None:
        millimetres = np.clip(np.rint(depth * _MILLIMETRES), 0, 65535).astype(np.uint16)
    plain = {name: value for name, value in record.items() if name not in ("target", "identities", "masks", "depth")}
    facts = {
        "version": FORMAT_VERSION,
        "subjects": len(record["captions"]),
        "masks": "visible",
        "has_depth": depth is not None,
    }
    return {
        f"{key}.target.png": _png(Image.fromarray(record["target"])),
        f"{key}.identities.png": _png(Image.fromarray(np.concatenate(record["identities"], axis=0))),
        f"{key}.masks.png": _png(Image.fromarray(masks).convert("1", dither=Image.Dither.NONE)),
        f"{key}.depth.png": _png(Image.fromarray(millimetres)),
        f"{key}.json": json.dumps({**facts, **plain}, sort_keys=True).encode(),
    }


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _merged(example: Example) -> Any:
    """(H, W) metres over all subjects, 0 elsewhere; visible masks do not overlap."""
    depth = np.zeros(example.target.shape[:2], np.float32)
    for subject in example.subjects:
        if subject.depth is not None:
            depth[subject.mask] = subject.depth[subject.mask]
    return depth


def _plain_box(box: Any) -> Any:
    return None if box is None else {name: list(getattr(box, name)) for name in ("center", "size", "rotation")}
