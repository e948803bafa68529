"""The options of ``sigma_set``."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_datasources.replacement import check_max_bad


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
        check_max_bad(self.max_bad)
