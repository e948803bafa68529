"""The options of ``dreambooth``."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_datasources.replacement import check_max_bad


@dataclass(frozen=True, kw_only=True)
class DreamBoothConfig:
    """Options of ``dreambooth``."""

    path: str
    """Folder with one folder of pictures (PNG, JPEG, WebP) per subject."""
    image_size: int = 512
    """Side of the square target, cut from the middle, pixels."""
    reference_size: int = 512
    """Side of the square reference, cut from the middle, pixels."""
    licence: str = ""
    """Of the pictures; goes into every sample."""
    max_bad: float = 0.0
    """Share of damaged pictures above which reading stops, 0..1."""
    quarantine: str | None = None
    """File to which damaged pictures are written, one line of JSON each."""

    def __post_init__(self) -> None:
        check_max_bad(self.max_bad)
        for name in ("image_size", "reference_size"):
            if not 16 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 16 to 4096")
