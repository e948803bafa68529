"""How many blocks of a transformer must be computed twice for a step to fit; no torch."""

from __future__ import annotations

from collections.abc import Callable

KeptNumbers = Callable[[int, int, int, int], float]
"""(blocks computed twice, double blocks, single blocks, bytes per number) -> numbers of the width kept per token."""


def planned_blocks(numbers: float, double: int, single: int, size: int, kept: KeptNumbers) -> int:
    """The fewest blocks to compute twice so that a step holds at most ``numbers``; all where that is not enough.

    Args:
        numbers: of the transformer's width per token, that there is memory for.
        double: blocks with two streams.
        single: the others.
        size: bytes per number.
        kept: the base's formula.
    """
    blocks = double + single
    return next((twice for twice in range(blocks) if kept(twice, double, single, size) <= numbers), blocks)
