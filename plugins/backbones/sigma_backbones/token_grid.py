"""How FLUX's bases cut an image into latents and tokens; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VAE_FACTOR = 8
"""Pixels per latent, along each side."""
PATCH = 2
"""Latents per side of a token."""
TOKEN_PIXELS = VAE_FACTOR * PATCH
"""Pixels per token, along each side."""


def latent_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in latents.

    Raises:
        ValueError: a side is not a multiple of a token's, or shorter.
    """
    height, width = size_hw
    if height < TOKEN_PIXELS or width < TOKEN_PIXELS or height % TOKEN_PIXELS or width % TOKEN_PIXELS:
        raise ValueError(f"width and height must be multiples of {TOKEN_PIXELS} pixels, found {width} x {height}")
    return height // VAE_FACTOR, width // VAE_FACTOR


def token_counts(facts: Mapping[str, Any], text_length: int) -> dict[str, int]:
    """Tokens per role and in all; identity images are stacked along the height (section 3.2).

    Args:
        facts: ``size_hw`` pixels, ``identity_size`` (side in pixels or height and width), ``subjects``, and optionally
            ``text_length`` in the place of the base's.
        text_length: of the base.
    """
    height, width = facts["size_hw"]
    side = facts["identity_size"]
    block_height, block_width = side if isinstance(side, tuple | list) else (side, side)
    target = (height // TOKEN_PIXELS) * (width // TOKEN_PIXELS)
    identity = int(facts["subjects"]) * (block_height // TOKEN_PIXELS) * (block_width // TOKEN_PIXELS)
    counts = {"text": int(facts.get("text_length") or text_length), "target": target, "identity": identity}
    counts["spatial"] = target
    return {**counts, "total": sum(counts.values())}
