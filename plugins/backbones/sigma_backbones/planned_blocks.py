"""How many blocks of a transformer must be computed twice for a step to fit; no torch."""

from __future__ import annotations

from collections.abc import Callable


def fewest_blocks(numbers: float, blocks: int, kept: Callable[[int], float]) -> int:
    """The fewest blocks to compute twice so that a step holds at most ``numbers``; all where that is not enough.

    Args:
        numbers: of the transformer's width per token, that there is memory for.
        blocks: of the transformer.
        kept: what a step holds when so many blocks are computed twice.
    """
    return next((twice for twice in range(blocks) if kept(twice) <= numbers), blocks)
