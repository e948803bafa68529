"""The options of ``toybox``. Nothing here imports the renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_SUBJECTS = 10
"""The world is drawn for up to ten subjects, as the paper's data (section 4.1)."""
SMALLEST_SIDE = 48
"""Below this many pixels ten subjects cannot be told apart."""
LARGEST_SIDE = 1024
"""Above this a scene takes seconds."""

Split = Literal["train", "test"]
Holdout = Literal["none", "shapes", "textures", "colours"]


@dataclass(frozen=True, kw_only=True)
class ToyboxConfig:
    """Options of ``toybox``; an example depends on these and on its index alone."""

    seed: int = 0
    """Starts all random streams; 0 or larger."""
    count: int = 10_000
    """Number of examples; example i is the same for every count."""
    image_size: int | tuple[int, int] = 128
    """Side of the square image, or (width, height), pixels; sides from 48 to 1024."""
    identity_size: int = 64
    """Side of the square identity images, pixels, 16 to 512."""
    min_subjects: int = 1
    """Fewest subjects in an example, 1 to 10."""
    max_subjects: int = MOST_SUBJECTS
    """Most subjects in an example, ``min_subjects`` to 10; the count is drawn evenly between the two."""
    split: Split = "train"
    """``test`` draws from other random streams than ``train``."""
    holdout: Holdout = "none"
    """With split ``test``: every subject has a solid, a texture or a colour that training never shows."""
    same_colour: bool = False
    """All subjects of a scene share their colours; only texture and shape tell them apart."""
    cache: str | None = None
    """Folder in which rendered examples are kept; None renders every time."""

    def __post_init__(self) -> None:
        found = [
            *_outside("seed", self.seed, 0, 2**63 - 1),
            *_outside("count", self.count, 0, 2**31),
            *_outside("width of image_size", self.size_hw[1], SMALLEST_SIDE, LARGEST_SIDE),
            *_outside("height of image_size", self.size_hw[0], SMALLEST_SIDE, LARGEST_SIDE),
            *_outside("identity_size", self.identity_size, 16, 512),
            *_outside("min_subjects", self.min_subjects, 1, MOST_SUBJECTS),
            *_outside("max_subjects", self.max_subjects, self.min_subjects, MOST_SUBJECTS),
        ]
        if self.holdout != "none" and self.split != "test":
            found.append(
                f"holdout {self.holdout} needs split test, found split {self.split}: training never sees those"
            )
        if self.same_colour and self.holdout == "colours":
            found.append("same_colour and holdout colours ask for different things; use one of them")
        if self.same_colour and self.holdout in {"shapes", "textures"} and self.max_subjects > 2:
            found.append(
                f"same_colour with holdout {self.holdout} has two identities at most, found max_subjects "
                f"{self.max_subjects}; set max_subjects: 2"
            )
        if found:
            raise ValueError("; ".join(found))

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the images, pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        width, height = self.image_size
        return height, width


def _outside(name: str, value: int, low: int, high: int) -> list[str]:
    return [] if low <= value <= high else [f"{name} must be from {low} to {high}, found {value}"]
