"""What a recipe may say about the annotators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MIN_AREA_SHARE = 0.01
"""Section A.1: boxes under 1 % of the image are removed."""
MAX_AREA_SHARE = 0.40
"""Section A.1: boxes over 40 % of the image are removed."""
MIN_SUBJECTS = 3
"""Section A.1: only images with more than two subjects are kept."""
DUPLICATE_IOU = 0.625
"""Masks that share more than this are one subject found twice. Section A.1 says "duplicate or overlapping" and gives no
number; this one is the duplicate suppression of the IMIG pipeline."""
DUPLICATE_CONTAINMENT = 0.8
"""A mask that lies inside another by more than this share of its own pixels is a part of it; ours."""


@dataclass(frozen=True, kw_only=True)
class SubjectFilterConfig:
    """``annotators.<name>: {type: subject_filter, ...}``."""

    min_area_share: float = MIN_AREA_SHARE
    """Smallest box, as a share of the image's area, 0..1."""
    max_area_share: float = MAX_AREA_SHARE
    """Largest box, as a share of the image's area, 0..1."""
    max_iou: float = DUPLICATE_IOU
    """Of two masks whose intersection over union is above this, the later one is removed, 0..1."""
    max_containment: float = DUPLICATE_CONTAINMENT
    """Of two masks whose intersection is above this share of the smaller one, the later one is removed, 0..1."""
    min_subjects: int = MIN_SUBJECTS
    """A record with fewer subjects left is dropped; 0 keeps every record."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_area_share < self.max_area_share <= 1:
            raise ValueError(
                f"found min_area_share {self.min_area_share} and max_area_share {self.max_area_share}, "
                "expected 0 <= min_area_share < max_area_share <= 1"
            )
        for name in ("max_iou", "max_containment"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number from 0 to 1")
        if self.min_subjects < 0:
            raise ValueError(f"min_subjects: found {self.min_subjects}, expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class DistinctPromptsConfig:
    """``annotators.<name>: {type: distinct_prompts, ...}``."""

    compare: tuple[str, ...] = ("prompt_background", "captions")
    """Keys of a record, texts or lists of texts, that say together what its scene is."""

    def __post_init__(self) -> None:
        if not self.compare:
            raise ValueError("compare: found no key, expected one at least, e.g. captions")


@dataclass(frozen=True, kw_only=True)
class ReferenceCutoutsConfig:
    """``annotators.<name>: {type: reference_cutouts, ...}``."""

    segmenter: str = "colour_segmenter"
    """Annotator of this package that finds the subject in its reference; the one that looks at the targets, too."""
    segmenter_options: Mapping[str, Any] = field(default_factory=dict)
    """Its options."""
    identity_size: int = 512
    """Side of the square identity images, pixels."""
    padding: float = 1.3
    """Side of the square over the longer side of the subject."""

    def __post_init__(self) -> None:
        if not 16 <= self.identity_size <= 2048 or not 1 <= self.padding <= 4:
            raise ValueError("identity_size from 16 to 2048 and padding from 1 to 4 are expected")
