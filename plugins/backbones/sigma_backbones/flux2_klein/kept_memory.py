"""What a training step of FLUX.2 klein keeps for its backward pass, by closed formulas; no torch."""

from __future__ import annotations

KEPT_BYTES = {4: (85, 93), 2: (57, 65)}
"""By bytes of a number: what a double and a single block keep for the backward pass, bytes per token and number of the
transformer's width, with the default LoRA. Counted on tensors saved by autograd; adapters keep float32 copies."""


def kept_numbers(twice: int, double: int, single: int, size: int) -> float:
    """Numbers of the width per token that a training step holds.

    The backward pass comes to the first blocks when it is done with the others: what is kept of these and a block that
    is computed again are never there together.

    Args:
        twice: how many blocks are computed twice, the first ones; each keeps its input.
        double: blocks with two streams, which come first.
        single: the others.
        size: bytes per number.
    """
    kept_double, kept_single = KEPT_BYTES[size]
    once_double, once_single = max(0, double - twice), min(single, double + single - twice)
    whole = kept_double * once_double + kept_single * once_single
    return twice + max(whole, max(KEPT_BYTES[size]) if twice else 0) / size
