"""Options of the two loops; steps and guidance belong to every sampler and are the core's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """``generate`` has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class BlendedInsertionConfig:
    """Options of ``blended_insertion``."""

    start: float = 1.0
    """How much of the schedule runs, in (0, 1]: 1 starts from pure noise; less keeps more of the photograph's colours
    inside the regions, at the price of identity (the ``strength`` of image-to-image pipelines)."""

    def __post_init__(self) -> None:
        if not 0 < self.start <= 1:
            raise ValueError(f"start must be above 0 and at most 1, found {self.start}")
