"""The options of ``sigma_set``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SigmaSetConfig:
    """Options of ``sigma_set``."""

    path: str
    """Folder of the shards (``./`` in front makes it relative to the recipe), or its address for fsspec."""
    cache: str | None = None
    """Local folder for the shards of an address; None is ``~/.cache/sigma_framework/shards``."""
    max_bad: float = 0.001
    """Share of damaged samples above which reading stops; up to it they are replaced and told, 0..1."""
    quarantine: str | None = None
    """File to which damaged samples are written, one line of JSON each; None only logs them."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ValueError("path: empty, expected the folder of the shards")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad: found {self.max_bad}, expected a number from 0 to 1")
