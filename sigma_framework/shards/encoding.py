"""A record of the builder as the five members of a sample, and back as a training example."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sigma_framework.errors import DataError
from sigma_framework.shards.document import ShardDocument, read_document
from sigma_framework.shards.layout import FORMAT_VERSION
from sigma_framework.shards.pictures import MAX_PIXELS, depth_levels, depth_values, picture_file, picture_pixels
from sigma_framework.types import MAX_SUBJECTS, BoolMap, Box3D, Example, FloatMap, RgbImage, SubjectAnnotation

_NEEDED = ("key", "target", "identities", "masks", "captions", "prompt_full", "prompt_background", "camera")
_PER_SUBJECT = ("identities", "captions", "boxes_xyxy", "boxes_3d")


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
    name = str(record.get("key", key))
    _require_fitting(record, name)
    masks = np.asarray(record["masks"], bool)
    count, height, width = masks.shape
    levels, depth_facts = depth_levels(record.get("depth"), record.get("depth_kind", "metric"), (height, width))
    text = _document_of(record, name, masks, depth_facts)
    shown = visible_masks(masks, read_document(text, f"{name}: document")).any(axis=(1, 2))
    if not shown.all():
        hidden = np.flatnonzero(~shown).tolist()
        raise DataError(f"{name}: subjects {hidden} are covered by others; filter subjects before writing")
    identities = np.concatenate(list(record["identities"]), axis=0)
    members = {
        f"target.{encoding.target}": picture_file(record["target"], encoding.target, encoding.quality),
        f"identities.{encoding.identities}": picture_file(identities, encoding.identities, encoding.quality),
        "masks.png": picture_file(masks.reshape(count * height, width), "png", 0),
        "depth.png": picture_file(levels, "png", 0),
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
    target = picture_pixels(members["target"], "target", (width, height), place)
    blocks = picture_pixels(members["identities"], "identities", (block_width, block_height * count), place)
    masks = picture_pixels(members["masks"], "masks", (width, height * count), place).reshape(count, height, width)
    levels = picture_pixels(members["depth"], "depth", (width, height), place)
    shown = visible_masks(masks, document).any(axis=(1, 2))
    if not shown.all():
        raise DataError(f"{place}.masks.png: subjects {np.flatnonzero(~shown).tolist()} have no visible pixel")
    return DecodedSample(
        document=document,
        target=target,
        identities=tuple(blocks[k * block_height : (k + 1) * block_height] for k in range(count)),
        masks=masks,
        depth=depth_values(levels, document.depth),
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


def _require_fitting(record: Mapping[str, Any], name: str) -> None:
    """What is written must be what can be read again: all parts there, of shapes that belong together."""
    if missing := [part for part in _NEEDED if record.get(part) is None]:
        raise DataError(f"{name}: cannot be written without {', '.join(missing)}; add the stage that makes them")
    masks = np.asarray(record["masks"])
    if masks.ndim != 3 or masks.dtype != np.bool_ or not 1 <= len(masks) <= MAX_SUBJECTS:
        found = f"{masks.dtype} of shape {masks.shape}"
        raise DataError(
            f"{name}: masks: found {found}, expected bool of shape (N, H, W) for 1 to {MAX_SUBJECTS} subjects"
        )
    if not masks.any(axis=(1, 2)).all():
        raise DataError(f"{name}: a mask is empty; filter subjects before writing")
    counts = {part: len(record[part]) for part in _PER_SUBJECT if record.get(part) is not None}
    if set(counts.values()) != {len(masks)}:
        raise DataError(f"{name}: found {counts}, expected one of each per subject, {len(masks)} as of the masks")
    (_, height, width), blocks = masks.shape, [np.asarray(block) for block in record["identities"]]
    shapes = {"target": (np.asarray(record["target"]), (height, width, 3))}
    shapes |= {f"identities[{number}]": (block, (*blocks[0].shape[:2], 3)) for number, block in enumerate(blocks)}
    for part, (pixels, shape) in shapes.items():
        if pixels.dtype != np.uint8 or pixels.shape != shape:
            raise DataError(f"{name}: {part}: found {pixels.dtype} of shape {pixels.shape}, expected uint8 of {shape}")
    if record.get("depth") is not None and np.shape(record["depth"]) != (height, width):
        raise DataError(f"{name}: depth: found shape {np.shape(record['depth'])}, expected {(height, width)}")
    if (most := max(masks.size, sum(block.size // 3 for block in blocks))) > MAX_PIXELS:
        raise DataError(
            f"{name}: {len(masks)} subjects take {most / 1e6:.0f} megapixels in one member, the limit is "
            f"{MAX_PIXELS // 10**6}; use a smaller image_size or identity_size, or fewer subjects"
        )


def _document_of(record: Mapping[str, Any], name: str, masks: BoolMap, depth_facts: Mapping[str, Any] | None) -> bytes:
    identity_height, identity_width = np.shape(record["identities"][0])[:2]
    document = {
        "version": FORMAT_VERSION,
        "key": name,
        "size": [masks.shape[2], masks.shape[1]],
        "identity_size": [identity_width, identity_height],
        "prompts": {"full": record["prompt_full"], "background": record["prompt_background"]},
        "subjects": _subjects(record, masks),
        "camera": dict(record["camera"]),
        "masks": record.get("mask_kind", "visible"),
        "front_to_back": list(record.get("front_to_back", ())),
        "depth": depth_facts,
        "provenance": dict(record.get("provenance", {})),
        "licence": record.get("licence", ""),
    }
    try:
        return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # NaN, half of a surrogate pair, an object that is no plain data
        raise DataError(
            f"{name}: cannot be written as JSON ({error}); expected plain data and finite numbers"
        ) from error


def _subjects(record: Mapping[str, Any], masks: BoolMap) -> list[dict[str, Any]]:
    boxes = record.get("boxes_xyxy")
    flat: Sequence[Any] = [box_around(mask) for mask in masks] if boxes is None else boxes
    solid: Sequence[Any] = record.get("boxes_3d") or [None] * len(masks)
    facts = zip(record["captions"], flat, solid, strict=True)
    return [{"caption": c, "box2d": [float(v) for v in b], "box3d": s} for c, b, s in facts]


def _subject_depth(depth: FloatMap | None, mask: BoolMap) -> FloatMap | None:
    """Depth that is known on all of the mask: holes take the subject's median; None when half of it is unknown."""
    if depth is None:
        return None
    known = mask & (depth > 0)
    if 2 * np.count_nonzero(known) < np.count_nonzero(mask):
        return None
    filled = np.where(known, depth, np.float32(np.median(depth[known])))
    return np.where(mask, filled, np.float32(0)).astype(np.float32)
