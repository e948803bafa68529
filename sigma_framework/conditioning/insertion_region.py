"""Where a photograph may change when subjects are inserted: the union of the regions, wider, soft at its edge."""

from __future__ import annotations

import numpy as np

from sigma_framework.types import BoolMap, FloatMap

GROW_FRACTION = 0.02
"""Widening of the union as a fraction of the shorter side, for contact shadows."""
FEATHER_FRACTION = 0.02
"""Width of the soft edge outside the widened union, as a fraction of the shorter side."""


def insertion_region(
    regions: BoolMap, grow_fraction: float = GROW_FRACTION, feather_fraction: float = FEATHER_FRACTION
) -> FloatMap:
    """(H, W) float32 in 0..1: 1 on the widened union of ``regions`` (N, H, W), falling to 0 over the soft edge."""
    union: BoolMap = np.logical_or.reduce(regions, axis=0)
    shorter = min(union.shape)
    grow, feather = round(grow_fraction * shorter), round(feather_fraction * shorter)
    soft = np.zeros(union.shape, np.float32)
    widened = _widen(union, grow)
    soft[widened] = 1
    for step in range(1, feather + 1):
        wider = _widen(widened, 1)
        soft[wider & ~widened] = 1 - step / (feather + 1)
        widened = wider
    return soft


def _widen(mask: BoolMap, pixels: int) -> BoolMap:
    """The mask and every pixel within ``pixels`` steps of it, alternating cross and square so that it grows round."""
    wide = mask.copy()
    for step in range(pixels):
        grown = wide.copy()
        grown[1:] |= wide[:-1]
        grown[:-1] |= wide[1:]
        base = grown.copy() if step % 2 else wide
        grown[:, 1:] |= base[:, :-1]
        grown[:, :-1] |= base[:, 1:]
        wide = grown
    return wide
