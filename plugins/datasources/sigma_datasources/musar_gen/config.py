"""The options of ``musar_gen``."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_datasources.replacement import check_max_bad


@dataclass(frozen=True, kw_only=True)
class MusarGenConfig:
    """Options of ``musar_gen``."""

    path: str
    """A Parquet file, or a folder of them."""
    image_size: int = 512
    """Side of the square target, cut from the middle, pixels."""
    identity_size: int = 512
    """Side of the square identity images, pixels."""
    max_bad: float = 0.001
    """Share of damaged rows above which reading stops, 0..1."""
    quarantine: str | None = None
    """File to which damaged rows are written, one line of JSON each."""

    def __post_init__(self) -> None:
        check_max_bad(self.max_bad)
        for name in ("image_size", "identity_size"):
            if not 16 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 16 to 4096")
