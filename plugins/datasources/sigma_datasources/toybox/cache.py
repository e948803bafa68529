"""Rendered examples on disk, one file each, in a folder named after everything that decides their content."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_framework import Box3D, Camera, DataError, Example, SubjectAnnotation

log = logging.getLogger(__name__)

RENDERING = 1
"""Goes up when the same (seed, index) gives another picture; older entries are then left alone."""
_PER_FOLDER = 1000
_NOWHERE = 255
"""Owner of a pixel without a subject."""
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile, zlib.error)


def cache_key(config: ToyboxConfig) -> str:
    """16 hexadecimal digits; ``cache`` and ``count`` do not change what an example is."""
    fields = dataclasses.asdict(config)
    fields.pop("cache")
    fields.pop("count")
    fields["image_size"] = list(config.size_hw)
    fields["rendering"] = RENDERING
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


class ExampleCache:
    """Examples of one config; safe with many readers and writers, because files appear whole or not at all."""

    def __init__(self, config: ToyboxConfig) -> None:
        self._root = Path(str(config.cache)).expanduser() / f"toybox-{cache_key(config)}"

    def path(self, index: int) -> Path:
        """The file of one example, whether it exists or not."""
        return self._root / f"{index // _PER_FOLDER:05d}" / f"{index:08d}.npz"

    def load(self, index: int) -> Example | None:
        """The stored example; None when there is none or it is damaged."""
        path = self.path(index)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return _unpack({name: arrays[name] for name in arrays.files})
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            log.warning("%s is damaged (%s: %s) and is made anew", path, type(error).__name__, error)
            return None

    def store(self, index: int, example: Example) -> None:
        """Writes one example.

        Raises:
            DataError: the folder cannot be written.
        """
        path = self.path(index)
        partial = path.with_name(f".{path.stem}-{uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **_pack(example))
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise DataError(
                f"cache: cannot write {path} ({error.strerror}); choose another folder or free space"
            ) from error


def _pack(example: Example) -> dict[str, NDArray[Any]]:
    """Masks never overlap, so one map of owners and one of depth hold them all."""
    owner = np.full(example.target.shape[:2], _NOWHERE, np.uint8)
    depth = np.zeros(owner.shape, np.float32)
    facts = []
    for k, subject in enumerate(example.subjects):
        owner[subject.mask] = k
        if subject.depth is None or subject.box3d is None:
            raise ValueError(f"{example.key}: subject {k} has no depth or no 3D box")
        depth[subject.mask] = subject.depth[subject.mask]
        facts.append({"box2d": subject.box2d, "box3d": dataclasses.asdict(subject.box3d), "caption": subject.caption})
    text = {
        "subjects": facts,
        "camera": dataclasses.asdict(example.subjects[0].camera),
        "prompt_full": example.prompt_full,
        "prompt_background": example.prompt_background,
        "key": example.key,
    }
    return {
        "target": example.target,
        "identities": np.stack(example.identities),
        "owner": owner,
        "depth": depth,
        "text": np.frombuffer(json.dumps(text).encode(), np.uint8),
    }


def _unpack(arrays: dict[str, NDArray[Any]]) -> Example:
    text = json.loads(arrays["text"].tobytes())
    camera = Camera(**text["camera"])
    owner, depth = arrays["owner"], arrays["depth"]
    subjects = []
    for k, fact in enumerate(text["subjects"]):
        mask = owner == k
        box = {name: tuple(values) for name, values in fact["box3d"].items()}
        subjects.append(
            SubjectAnnotation(
                mask=mask,
                depth=np.where(mask, depth, np.float32(0)),
                camera=camera,
                box2d=tuple(fact["box2d"]),
                box3d=Box3D(**box),
                caption=fact["caption"],
            )
        )
    if len(arrays["identities"]) != len(subjects):
        raise ValueError("identities and subjects differ in number")
    return Example(
        target=arrays["target"],
        identities=tuple(arrays["identities"]),
        subjects=tuple(subjects),
        prompt_full=text["prompt_full"],
        prompt_background=text["prompt_background"],
        key=text["key"],
    )
