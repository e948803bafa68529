"""The options of ``photographs``."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_datasources.replacement import check_max_bad


@dataclass(frozen=True, kw_only=True)
class PhotographsConfig:
    """Options of ``photographs``."""

    path: str
    """Folder of pictures (PNG, JPEG, WebP), at any depth."""
    caption: str | None = None
    """What is on every picture; null takes the name of the folder that a picture lies in."""
    image_size: int = 512
    """Side of the square target, cut from the middle, pixels."""
    licence: str = ""
    """Of the pictures; goes into every sample."""
    max_bad: float = 0.0
    """Share of damaged pictures above which reading stops, 0..1."""
    quarantine: str | None = None
    """File to which damaged pictures are written, one line of JSON each."""

    def __post_init__(self) -> None:
        check_max_bad(self.max_bad)
        if not 16 <= self.image_size <= 4096:
            raise ValueError(f"image_size: found {self.image_size}, expected 16 to 4096")
