"""Options of the annotators that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TemplatePromptsConfig:
    """``annotators.<name>: {type: template_prompts, ...}``."""

    captions: tuple[str, ...]
    """Templates of a subject, e.g. ``{colour} {thing}``; one is drawn per subject."""
    backgrounds: tuple[str, ...]
    """Templates of a place, e.g. ``{surface} in {light}``; one is drawn per record."""
    full: tuple[str, ...] = ("{background} with {subjects}",)
    """Templates of the full prompt; ``background`` and ``subjects`` are filled in."""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What may stand for each name in braces."""
    apart: tuple[str, ...] = ()
    """Names whose word no two subjects of a record share, as long as there are enough."""
    min_subjects: int = 3
    """Fewest subjects (section A.1: 3)."""
    max_subjects: int = 10
    """Most subjects (section A.1: 10); the count is drawn evenly."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_subjects <= self.max_subjects <= 25:
            raise ValueError(
                f"found min_subjects {self.min_subjects} and max_subjects {self.max_subjects}, expected "
                "1 <= min_subjects <= max_subjects <= 25"
            )
        if not (self.captions and self.backgrounds and self.full):
            raise ValueError("captions, backgrounds and full need one template each at least")
        if empty := sorted(name for name, choices in self.words.items() if not choices):
            raise ValueError(f"words: nothing to choose from for {', '.join(empty)}")


@dataclass(frozen=True, kw_only=True)
class ColourSegmenterConfig:
    """``annotators.<name>: {type: colour_segmenter, ...}``."""

    threshold: float = 3.5
    """Difference of colour (CIE Lab) from the picture's frame above which a pixel is a subject's."""
    smoothness: float = 1.5
    """How strongly neighbours of like colour are pulled to one side."""
    colour_tolerance: float = 28.0
    """Largest difference from the colour that the caption names."""
    min_seed_pixels: int = 12
    """A subject with fewer pixels of its caption's colour is not found."""
    working_side: int = 256
    """Pictures with a longer side are segmented at this one, pixels."""

    def __post_init__(self) -> None:
        for name in ("threshold", "smoothness", "colour_tolerance"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number above 0")
        if self.min_seed_pixels < 1 or self.working_side < 32:
            raise ValueError("min_seed_pixels must be at least 1, working_side at least 32")


@dataclass(frozen=True, kw_only=True)
class BoxFitterConfig:
    """``annotators.<name>: {type: box_fitter, ...}``."""

    method: Literal["upright", "minimal", "pca"] = "upright"
    """``upright``: stands on the ground, hidden side completed by symmetry; ``minimal``: smallest box of any turn
    (trimesh); ``pca``: principal axes, as Open3D's ``get_oriented_bounding_box``."""
    erosion: int = 1
    """Pixels taken off a mask's border, where depth belongs to what is behind; the box is grown by them again."""
    neighbours: int = 8
    """Points to which each point's distance is measured when outliers are removed."""
    isolation: float = 6.0
    """Points that are so many times as far from their neighbours as the usual point are outliers."""
    min_points: int = 20
    """A subject with fewer points gets no 3D box."""

    def __post_init__(self) -> None:
        if self.erosion < 0 or self.neighbours < 1 or self.isolation <= 1 or self.min_points < 5:
            raise ValueError("erosion >= 0, neighbours >= 1, isolation > 1 and min_points >= 5 are expected")


@dataclass(frozen=True, kw_only=True)
class PlainPromptsConfig:
    """``annotators.<name>: {type: plain_prompts, ...}``."""

    full: str = "a photograph of {subjects}"
    """Full prompt of a record that has none; ``subjects`` is the list of captions."""
    background: str = "a photograph"
    """Background prompt of a record that has none."""

    def __post_init__(self) -> None:
        for name in ("full", "background"):
            try:
                text = getattr(self, name).format(subjects="x")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{name}: only {{subjects}} may stand in braces") from error
            if not text.strip():
                raise ValueError(f"{name}: empty")


@dataclass(frozen=True, kw_only=True)
class CutoutIdentitiesConfig:
    """``annotators.<name>: {type: cutout_identities, ...}``."""

    identity_size: int = 512
    """Side of the square identity images, pixels."""
    padding: float = 1.3
    """Side of the square over the longer side of the subject."""

    def __post_init__(self) -> None:
        if not 16 <= self.identity_size <= 2048 or not 1 <= self.padding <= 4:
            raise ValueError("identity_size from 16 to 2048 and padding from 1 to 4 are expected")
