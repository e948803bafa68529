"""A record of the builder as the five members of a sample, and back as a training example."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.errors import DataError
from sigma_framework.shards.document import DepthFacts, ShardDocument, read_document
from sigma_framework.shards.layout import FORMAT_VERSION
from sigma_framework.types import BoolMap, Box3D, Example, FloatMap, RgbImage, SubjectAnnotation

_MILLIMETRES = 1000.0
_MAX_PIXELS = 50_000_000
"""Of one member; ten masks of 2,048 pixels fit."""
_STEPS = 65534.0
"""Between value 1 (near) and value 65535 (far) of a scaled depth picture."""
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_MODES = {"target": "RGB", "identities": "RGB", "masks": "1", "depth": "I;16"}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How pictures are stored; one choice per set, so that every sample has the same members."""

    target: Literal["png", "jpg"] = "png"
    """PNG keeps every value; JPEG is a tenth of the size."""
    identities: Literal["png", "jpg", "webp"] = "png"
    """Ten blocks of 512 take 83 ms to decode as PNG and about a third of it as JPEG."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSample:
    """One sample ready to be written."""

    key: str
    """Its members start with it."""
    members: Mapping[str, bytes] = field(repr=False)
    """Content by ``part.suffix``."""
    subjects: int
    """How many."""
    size_hw: tuple[int, int]
    """Of the target, pixels."""


def encode_record(record: Mapping[str, Any], key: str, encoding: Encoding) -> EncodedSample:
    """The members of one record; equal records give equal bytes.

    Args:
        record: ``key``, ``target`` (H, W, 3) uint8, ``identities`` N x (H', W', 3) uint8, ``masks`` (N, H, W) bool,
            ``captions``, ``prompt_full``, ``prompt_background``, ``camera``; may hold ``boxes_xyxy``, ``boxes_3d``,
            ``depth`` (H, W) with 0 where unknown, ``depth_kind`` (``metric`` or ``relative``), ``mask_kind``,
            ``front_to_back``, ``provenance``, ``licence``.
        key: of the members.
        encoding: of the pictures.

    Raises:
        DataError: the record lacks something or its parts do not fit together.
    """
    needed = ("key", "target", "identities", "masks", "captions", "prompt_full", "prompt_background", "camera")
    name = record.get("key", key)
    if missing := [part for part in needed if record.get(part) is None]:
        raise DataError(f"{name}: cannot be written without {', '.join(missing)}; add the stage that makes them")
    masks = np.asarray(record["masks"], bool)
    count, height, width = masks.shape
    if not count == len(record["identities"]) == len(record["captions"]):
        raise DataError(f"{name}: found {count} masks, {len(record['identities'])} identities and "
                        f"{len(record['captions'])} captions, expected one of each per subject")  # fmt: skip
    levels, depth_facts = _depth_levels(record.get("depth"), record.get("depth_kind", "metric"), (height, width))
    identities = np.concatenate(list(record["identities"]), axis=0)
    document = {
        "version": FORMAT_VERSION,
        "key": name,
        "size": [width, height],
        "identity_size": [identities.shape[1], identities.shape[0] // count],
        "prompts": {"full": record["prompt_full"], "background": record["prompt_background"]},
        "subjects": _subjects(record, masks),
        "camera": dict(record["camera"]),
        "masks": record.get("mask_kind", "visible"),
        "front_to_back": list(record.get("front_to_back", ())),
        "depth": depth_facts,
        "provenance": dict(record.get("provenance", {})),
        "licence": record.get("licence", ""),
    }
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    shown = visible_masks(masks, read_document(text, f"{name}: document")).any(axis=(1, 2))
    if not shown.all():
        hidden = np.flatnonzero(~shown).tolist()
        raise DataError(f"{name}: subjects {hidden} are covered by others; filter subjects before writing")
    members = {
        f"target.{encoding.target}": _file(record["target"], encoding.target, encoding.quality),
        f"identities.{encoding.identities}": _file(identities, encoding.identities, encoding.quality),
        "masks.png": _file(masks.reshape(count * height, width), "png", 0),
        "depth.png": _file(levels, "png", 0),
        "json": text,
    }
    return EncodedSample(key=key, members=members, subjects=count, size_hw=(height, width))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedSample:
    """A sample in memory."""

    document: ShardDocument
    """Its facts."""
    target: RgbImage
    """(H, W, 3) uint8."""
    identities: tuple[RgbImage, ...]
    """One (H', W', 3) uint8 per subject."""
    masks: BoolMap
    """(N, H, W) as stored; may overlap."""
    depth: FloatMap | None
    """(H, W) in the unit of ``document.depth``, 0 where unknown."""

    def example(self) -> Example:
        """As training takes it: masks without overlap, depth without holes."""
        shown = visible_masks(self.masks, self.document)
        document = self.document
        return Example(
            target=self.target,
            identities=self.identities,
            subjects=tuple(
                SubjectAnnotation(
                    mask=mask,
                    depth=_subject_depth(self.depth, mask),
                    camera=document.camera,
                    box2d=facts.box2d,
                    box3d=facts.box3d,
                    caption=facts.caption,
                )
                for mask, facts in zip(shown, document.subjects, strict=True)
            ),
            prompt_full=document.prompts.full,
            prompt_background=document.prompts.background,
            key=document.key,
        )

    def record(self) -> dict[str, Any]:
        """As the builder takes it; ``encode_record`` gives an equal sample again."""
        document = self.document
        boxes = [subject.box3d for subject in document.subjects]
        return {
            "key": document.key,
            "target": self.target,
            "identities": list(self.identities),
            "masks": self.masks,
            "mask_kind": document.masks,
            "front_to_back": list(document.front_to_back),
            "depth": self.depth,
            "depth_kind": "relative" if document.depth and document.depth.kind == "relative" else "metric",
            "boxes_xyxy": [list(subject.box2d) for subject in document.subjects],
            "boxes_3d": [None if box is None else plain_box(box) for box in boxes],
            "camera": {name: getattr(document.camera, name) for name in ("fx", "fy", "cx", "cy")},
            "captions": [subject.caption for subject in document.subjects],
            "prompt_full": document.prompts.full,
            "prompt_background": document.prompts.background,
            "provenance": dict(document.provenance),
            "licence": document.licence,
        }


def decode_sample(members: Mapping[str, tuple[str, bytes]], place: str) -> DecodedSample:
    """The pictures and facts of a sample.

    Args:
        members: (suffix, content) by part.
        place: named in messages.

    Raises:
        DataError: a member is damaged, or the members contradict one another.
    """
    document = read_document(members["json"][1], f"{place}.json")
    count, (width, height) = len(document.subjects), document.size
    block_width, block_height = document.identity_size
    target = _pixels(members["target"], "target", (width, height), place)
    blocks = _pixels(members["identities"], "identities", (block_width, block_height * count), place)
    masks = _pixels(members["masks"], "masks", (width, height * count), place).reshape(count, height, width)
    levels = _pixels(members["depth"], "depth", (width, height), place)
    shown = visible_masks(masks, document).any(axis=(1, 2))
    if not shown.all():
        raise DataError(f"{place}.masks.png: subjects {np.flatnonzero(~shown).tolist()} have no visible pixel")
    return DecodedSample(
        document=document,
        target=target,
        identities=tuple(blocks[k * block_height : (k + 1) * block_height] for k in range(count)),
        masks=masks,
        depth=_depth_values(levels, document.depth),
    )


def plain_box(box: Box3D) -> dict[str, list[float]]:
    """An oriented box as JSON."""
    return {name: list(getattr(box, name)) for name in ("center", "size", "rotation")}


def visible_masks(masks: BoolMap, document: ShardDocument) -> BoolMap:
    """(N, H, W) masks in which no pixel belongs to two subjects.

    ``whole`` masks are laid over one another from back to front; where ``visible`` masks overlap, the smaller one is
    taken to stand in front.
    """
    if len(masks) == 1 or masks.sum(axis=0, dtype=np.uint8).max() <= 1:
        return masks
    if document.masks == "whole":
        order = list(document.front_to_back) or list(range(len(masks)))
    else:
        order = np.argsort(masks.sum(axis=(1, 2)), kind="stable").tolist()
    taken = np.zeros(masks.shape[1:], bool)
    shown = np.zeros_like(masks)
    for number in order:
        shown[number] = masks[number] & ~taken
        taken |= masks[number]
    return shown


def box_around(mask: BoolMap) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a mask with pixels, right and bottom exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _subjects(record: Mapping[str, Any], masks: BoolMap) -> list[dict[str, Any]]:
    if not masks.any(axis=(1, 2)).all():
        raise DataError(f"{record['key']}: a mask is empty; filter subjects before writing")
    boxes: Sequence[Any] = record["boxes_xyxy"] if "boxes_xyxy" in record else [box_around(mask) for mask in masks]
    solid: Sequence[Any] = record.get("boxes_3d") or [None] * len(masks)
    facts = zip(record["captions"], boxes, solid, strict=True)
    return [{"caption": c, "box2d": [float(v) for v in b], "box3d": s} for c, b, s in facts]


def _depth_levels(
    depth: FloatMap | None, kind: str, size_hw: tuple[int, int]
) -> tuple[NDArray[np.uint16], dict[str, Any] | None]:
    """16-bit levels and how to read them; millimetres where they fit."""
    if depth is None:
        return np.zeros(size_hw, np.uint16), None
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.zeros(size_hw, np.uint16), None
    near, far = float(depth[known].min()), float(depth[known].max())
    if kind == "metric" and near >= 1 / _MILLIMETRES and far <= 65535 / _MILLIMETRES:
        levels = np.where(known, np.rint(np.where(known, depth, 0) * _MILLIMETRES), 0)
        return levels.astype(np.uint16), {"kind": "metric_mm"}
    share = (np.where(known, depth, near) - near) / max(far - near, 1e-12)
    levels = np.where(known, 1 + np.rint(share * _STEPS), 0).astype(np.uint16)
    return levels, {"kind": "metric" if kind == "metric" else "relative", "near": near, "far": far}


def _depth_values(levels: NDArray[Any], facts: DepthFacts | None) -> FloatMap | None:
    """(H, W) metres (or units of nobody's), 0 where unknown."""
    if facts is None:
        return None
    if facts.kind == "metric_mm":
        return (levels / np.float32(_MILLIMETRES)).astype(np.float32)
    assert facts.near is not None and facts.far is not None
    values = facts.near + (facts.far - facts.near) * (levels.astype(np.float64) - 1) / _STEPS
    return np.where(levels > 0, values, 0).astype(np.float32)


def _subject_depth(depth: FloatMap | None, mask: BoolMap) -> FloatMap | None:
    """Depth that is known on all of the mask: holes take the subject's median; None when half of it is unknown."""
    if depth is None:
        return None
    known = mask & (depth > 0)
    if 2 * np.count_nonzero(known) < np.count_nonzero(mask):
        return None
    filled = np.where(known, depth, np.float32(np.median(depth[known])))
    return np.where(mask, filled, np.float32(0)).astype(np.float32)


def _file(pixels: NDArray[Any], suffix: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if suffix == "png":
        image.save(buffer, format="PNG")
    elif suffix == "jpg":
        image.save(buffer, format="JPEG", quality=quality, subsampling=0)
    else:
        image.save(buffer, format="WEBP", quality=quality)
    return buffer.getvalue()


def _pixels(member: tuple[str, bytes], part: str, size: tuple[int, int], place: str) -> NDArray[Any]:
    """Decoded only after the header says what the document says, so that a small file cannot ask for much memory."""
    suffix, content = member
    name = f"{place}.{part}.{suffix}"
    if size[0] * size[1] > _MAX_PIXELS:
        raise DataError(f"{name}: {size[0] * size[1] / 1e6:.0f} megapixels, the limit is {_MAX_PIXELS // 10**6}")
    try:
        image = Image.open(io.BytesIO(content), formats=[_FORMATS[suffix]])
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise DataError(f"{name}: not a readable {_FORMATS[suffix]} picture") from error
    mode = "I;16" if image.mode == "I" and part == "depth" else image.mode
    if image.size != size or mode != _MODES[part]:
        found = f"{image.size[0]}x{image.size[1]} pixels of mode {image.mode}"
        raise DataError(f"{name}: found {found}, expected {size[0]}x{size[1]} of mode {_MODES[part]}")
    try:
        image.load()
    except Exception as error:
        raise DataError(f"{name}: cut off or damaged") from error
    return np.asarray(image)
