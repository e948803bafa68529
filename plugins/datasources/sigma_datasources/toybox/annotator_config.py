"""Options of the toybox's annotators. Nothing here imports the renderer."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_datasources.toybox.config import LARGEST_SIDE, SMALLEST_SIDE


@dataclass(frozen=True, kw_only=True)
class ToyboxImageConfig:
    """``annotators.<name>: {type: toybox_image, ...}``."""

    image_size: int = 128
    """Side of the square picture, pixels; 48 to 1024."""

    def __post_init__(self) -> None:
        if not SMALLEST_SIDE <= self.image_size <= LARGEST_SIDE:
            raise ValueError(f"image_size must be from {SMALLEST_SIDE} to {LARGEST_SIDE}, found {self.image_size}")


@dataclass(frozen=True, kw_only=True)
class ToyboxReposerConfig:
    """``annotators.<name>: {type: toybox_reposer, ...}``."""

    identity_size: int = 64
    """Side of the square identity images, pixels, 16 to 512."""

    def __post_init__(self) -> None:
        if not 16 <= self.identity_size <= 512:
            raise ValueError(f"identity_size must be from 16 to 512, found {self.identity_size}")


@dataclass(frozen=True, kw_only=True)
class ToyboxOracleDepthConfig:
    """``annotators.<name>: {type: toybox_oracle_depth}``; there is nothing to choose."""
