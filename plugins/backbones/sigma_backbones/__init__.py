"""Base models: FLUX.1 Kontext, and ``pocket``, a few million parameters of the same architecture that ship here."""

from __future__ import annotations

from pathlib import Path

POCKET = "pocket"
"""What recipes write for the weights and the adapter that are shipped with this package."""


def pocket_folder() -> Path:
    """The shipped checkpoint: a complete diffusers folder; its ``adapter/`` holds the trained adapter."""
    return Path(__file__).parent / POCKET
