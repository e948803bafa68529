"""Options that a recipe writes under ``controls:``: training augmentation (section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

DILATE_FRACTION = (0.0, 0.02)
"""The paper gives no number; Insert Anything dilates by a few pixels."""
ASPECT_JITTER = 0.01
"""Section 4.1."""


@dataclass(frozen=True)
class MaskConfig:
    """Options of ``mask``."""

    dilate_fraction: tuple[float, float] = DILATE_FRACTION
    """Range of the dilation radius in training, over the shorter side of the image."""

    def __post_init__(self) -> None:
        check_dilation(self.dilate_fraction)


@dataclass(frozen=True)
class DepthConfig:
    """Options of ``depth``."""

    dilate_fraction: tuple[float, float] = DILATE_FRACTION
    """Range of the dilation radius in training, over the shorter side; the rim takes depth from beside it."""

    def __post_init__(self) -> None:
        check_dilation(self.dilate_fraction)


@dataclass(frozen=True)
class Box2DConfig:
    """Options of ``box2d``."""

    dilate_fraction: tuple[float, float] = DILATE_FRACTION
    """Range of what is added on each side in training, over the shorter side of the image."""
    aspect_jitter: float = ASPECT_JITTER
    """Largest change of width over height in training, 0.01 is one percent."""

    def __post_init__(self) -> None:
        check_dilation(self.dilate_fraction)
        check_jitter(self.aspect_jitter)


@dataclass(frozen=True)
class Box3DConfig:
    """Options of ``box3d``."""

    dilate_fraction: tuple[float, float] = DILATE_FRACTION
    """Range of what is added on each side in training: pixels at the centre's depth, over the shorter side."""
    aspect_jitter: float = ASPECT_JITTER
    """Largest change of each extent in training, 0.01 is one percent."""

    def __post_init__(self) -> None:
        check_dilation(self.dilate_fraction)
        check_jitter(self.aspect_jitter)


@dataclass(frozen=True)
class MeshConfig:
    """Options of ``mesh``."""

    dilate_fraction: tuple[float, float] = DILATE_FRACTION
    """Range of the dilation radius in training, over the shorter side; the rim takes depth from beside it."""

    def __post_init__(self) -> None:
        check_dilation(self.dilate_fraction)


def check_dilation(fraction: tuple[float, float]) -> None:
    """Raises ``ValueError`` unless 0 <= low <= high <= 0.5."""
    if not 0 <= fraction[0] <= fraction[1] <= 0.5:
        raise ValueError(f"dilate_fraction: found {list(fraction)}, expected [low, high] with 0 <= low <= high <= 0.5")


def check_jitter(aspect_jitter: float) -> None:
    """Raises ``ValueError`` unless 0 <= jitter < 1."""
    if not 0 <= aspect_jitter < 1:
        raise ValueError(f"aspect_jitter: found {aspect_jitter}, expected at least 0 and less than 1")
