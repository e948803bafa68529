"""Options of the measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RoutingAccuracyConfig:
    """``routing_accuracy`` has no options."""


@dataclass(frozen=True, kw_only=True)
class ConfusionConfig:
    """``confusion`` has no options."""


@dataclass(frozen=True, kw_only=True)
class MissingSubjectsConfig:
    """``missing_subjects`` has no options."""


@dataclass(frozen=True, kw_only=True)
class IdentitySimilarityConfig:
    """``identity_similarity`` has no options."""


@dataclass(frozen=True, kw_only=True)
class RegionIouConfig:
    """``region_iou`` has no options."""


@dataclass(frozen=True, kw_only=True)
class JudgeDepthMseConfig:
    """``judge_depth_mse`` has no options."""


@dataclass(frozen=True, kw_only=True)
class BackgroundChangeConfig:
    """``background_change`` has no options."""


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
