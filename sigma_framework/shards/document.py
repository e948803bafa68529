"""``KEY.json``: everything about a sample that is not a picture, and reading it without trusting it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sigma_framework.dataclass_schema import build
from sigma_framework.errors import DataError, Problem
from sigma_framework.shards.layout import FORMAT_VERSION, MAX_CATALOGUE_BYTES
from sigma_framework.types import MAX_SUBJECTS, Box3D, Camera

_LARGEST_SIDE = 16_384
_MAX_NESTING = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTexts:
    """What training says to the model."""

    full: str
    """Names the subjects and the place."""
    background: str
    """Names the place alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFacts:
    """How to read ``KEY.depth.png``, in which 0 is unknown."""

    kind: Literal["metric_mm", "metric", "relative"]
    """``metric_mm``: millimetres. ``metric``: metres, value v is near + (far - near) (v - 1) / 65534. ``relative``: the
    same in units that nobody knows; right up to a scale, of no use for 3D boxes."""
    near: float | None = None
    """Of value 1; not for ``metric_mm``."""
    far: float | None = None
    """Of value 65535; not for ``metric_mm``."""

    def __post_init__(self) -> None:
        limits = (self.near, self.far)
        if self.kind == "metric_mm":
            if limits != (None, None):
                raise ValueError("metric_mm takes no near and far")
        elif self.near is None or self.far is None or not 0 < self.near <= self.far:
            raise ValueError(f"found near {self.near} and far {self.far}, expected 0 < near <= far")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectFacts:
    """One subject."""

    caption: str
    """What it is."""
    box2d: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels, right and bottom exclusive."""
    box3d: Box3D | None = None
    """In camera coordinates, metres; null when unknown."""

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box2d
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"box2d: found {list(self.box2d)}, expected x0 < x1 and y0 < y1")
        if not self.caption.strip():
            raise ValueError("caption: empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardDocument:
    """The contents of ``KEY.json``."""

    version: int
    """``FORMAT_VERSION``."""
    key: str
    """The sample's name at its source."""
    size: tuple[int, int]
    """Width and height of the target, pixels."""
    identity_size: tuple[int, int]
    """Width and height of one identity block, pixels."""
    prompts: PromptTexts
    """Both prompts."""
    subjects: tuple[SubjectFacts, ...]
    """In the order of the identity blocks and of the masks."""
    camera: Camera
    """Of the target, for its size."""
    masks: Literal["visible", "whole"] = "visible"
    """``visible``: the pixels that show the subject. ``whole``: as if it stood there alone."""
    front_to_back: tuple[int, ...] = ()
    """For ``whole``: subject numbers, nearest first; empty is the order of the subjects."""
    depth: DepthFacts | None = None
    """How to read the depth picture; null when there is none (it is then all 0)."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the sample came from: source, stages, thresholds, model revisions."""
    licence: str = ""
    """Of the pictures."""

    def __post_init__(self) -> None:
        if self.version != FORMAT_VERSION:
            raise ValueError(f"version: found {self.version}, expected {FORMAT_VERSION}")
        if not 1 <= len(self.subjects) <= MAX_SUBJECTS:
            raise ValueError(f"subjects: found {len(self.subjects)}, expected 1 to {MAX_SUBJECTS}")
        for name in ("size", "identity_size"):
            if not all(1 <= side <= _LARGEST_SIDE for side in getattr(self, name)):
                raise ValueError(f"{name}: found {list(getattr(self, name))}, expected sides from 1 to {_LARGEST_SIDE}")
        if not (self.key.strip() and self.prompts.full.strip() and self.prompts.background.strip()):
            raise ValueError("key and both prompts must not be empty")
        if self.front_to_back and sorted(self.front_to_back) != list(range(len(self.subjects))):
            raise ValueError(f"front_to_back: found {list(self.front_to_back)}, expected every subject once")


def read_document(content: bytes, name: str) -> ShardDocument:
    """A checked document.

    Raises:
        DataError: not JSON, or not what ``ShardDocument`` says; all problems together.
    """
    data = parse_json(content, name)
    if not isinstance(data, Mapping):
        raise DataError(f"{name}: found {type(data).__name__}, expected a JSON object")
    checked = build(ShardDocument, data, "")
    if checked.problems:
        raise DataError(name, checked.problems)
    document: ShardDocument = checked.value
    return document


def parse_json(content: bytes, name: str, limit: int = MAX_CATALOGUE_BYTES) -> Any:
    """Plain data of strict JSON: UTF-8, no NaN, no key twice, no half of a surrogate pair, no more than 32 levels.

    Raises:
        DataError: with the place.
    """
    if len(content) > limit:
        raise DataError(f"{name}: {len(content)} bytes, the limit is {limit}")
    try:
        data = json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, numbers of 5,000 digits
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{name}: not valid JSON", [Problem("", what[:200])]) from error
    _require_plain(data, name, 0)
    return data


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"found {text}, which JSON does not have")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _require_plain(data: Any, name: str, depth: int) -> None:
    if depth > _MAX_NESTING:
        raise DataError(f"{name}: not valid JSON", [Problem("", f"nested more than {_MAX_NESTING} levels")])
    if isinstance(data, float) and not math.isfinite(data):
        raise DataError(f"{name}: not valid JSON", [Problem("", "a number is too large")])
    if isinstance(data, str) and not data.isascii() and any("\ud800" <= letter <= "\udfff" for letter in data):
        raise DataError(f"{name}: not valid JSON", [Problem("", "a text holds half of a surrogate pair")])
    for part in [*data, *data.values()] if isinstance(data, dict) else data if isinstance(data, list) else ():
        _require_plain(part, name, depth + 1)
