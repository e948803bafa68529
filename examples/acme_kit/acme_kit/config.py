"""What a recipe and a scene may say about the components of this package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DiscGeometry:
    """``control: {type: acme_disc, center: [64, 64], radius: 20}``."""

    center: tuple[float, float]
    """x, y in pixels."""
    radius: float
    """Pixels."""


@dataclass(frozen=True, kw_only=True)
class DiscConfig:
    """``controls: {disc: {type: acme_disc}}``."""

    jitter: float = 0.02
    """Training: standard deviation of the radius, as a share of it."""


@dataclass(frozen=True, kw_only=True)
class MixerConfig:
    """``backbone: {type: acme_mixer}``."""

    width: int = 64
    """Width of the network."""
    seed: int = 0
    """Draws the base's weights."""


@dataclass(frozen=True, kw_only=True)
class DiscsConfig:
    """``datasources: {main: {type: acme_discs}}``."""

    length: int = 60
    """Number of examples."""
    image_size: int = 64
    """Side of the targets, pixels."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length: found {self.length}, expected at least 1")


@dataclass(frozen=True, kw_only=True)
class MidpointConfig:
    """``sampler: {type: acme_midpoint}`` has no options of its own."""
