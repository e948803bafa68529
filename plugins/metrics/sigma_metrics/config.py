"""Options of the measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PsnrConfig:
    """Options of ``psnr``."""

    subjects_only: bool = False
    """Measure only the pixels of the subjects' regions."""


@dataclass(frozen=True, kw_only=True)
class SsimConfig:
    """Options of ``ssim``."""

    window: int = 7
    """Side of the square window, pixels; odd."""

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window must be odd and at least 3, found {self.window}")
