"""Options of the objective ``judge``; plain records, no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Training of the judge on a data source's examples."""

    start: str | None = None
    """A ``judge.safetensors`` to go on from; None starts anew."""
    noise_share: float = 0.05
    """Share of pictures replaced by noise without a subject, so that noise is not taken for one; 0..1."""
    blur_share: float = 0.5
    """Share of pictures and cut-outs that are softened or roughened, so that texture quality decides nothing; 0..1."""
    identity_weight: float = 0.5
    """Weight of the identity comparison beside the per-pixel losses."""

    def __post_init__(self) -> None:
        for name in ("noise_share", "blur_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, found {getattr(self, name)}")
