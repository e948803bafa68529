"""The options of ``any_insertion``."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_datasources.replacement import check_max_bad


@dataclass(frozen=True, kw_only=True)
class AnyInsertionConfig:
    """Options of ``any_insertion``."""

    path: str
    """A Parquet file, a folder of them, or a converted folder (``<split>/<category>/ref_image/<id>.png`` ...)."""
    split: str | None = "train"
    """Only records of this split; null takes all."""
    categories: tuple[str, ...] | None = None
    """Only records of these categories, e.g. ``[object, accessory]``; null takes all."""
    image_size: int = 512
    """Side of the square target, cut around the subject, pixels."""
    identity_size: int = 512
    """Side of the square identity image, pixels."""
    identity_padding: float = 1.3
    """Side of the identity image over the longer side of the subject in it, 1 to 4."""
    licence: str = ""
    """Of the pictures; goes into every sample of a build."""
    max_bad: float = 0.001
    """Share of damaged records above which reading stops, 0..1."""
    quarantine: str | None = None
    """File to which damaged records are written, one line of JSON each."""

    def __post_init__(self) -> None:
        check_max_bad(self.max_bad)
        for name in ("image_size", "identity_size"):
            if not 16 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 16 to 4096")
        if not 1 <= self.identity_padding <= 4:
            raise ValueError(f"identity_padding: found {self.identity_padding}, expected 1 to 4")
