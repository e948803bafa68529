"""Training augmentation of what a user would draw: dilation, aspect jitter, channel dropout (section 4.1)."""

from __future__ import annotations

import math

import numpy as np

from sigma_framework.types import BoolMap

DILATE_FRACTION = (0.0, 0.02)
"""Range of the dilation radius over the shorter side of the image, drawn uniformly; the paper gives no number."""
ASPECT_JITTER = 0.01
"""Largest change of a box's aspect ratio (section 4.1)."""
CHANNEL_DROPOUT = 0.1
"""Probability that one of the three channels of ``I^C`` is set to 0 (section 4.1)."""


def draw_dropped_channel(rng: np.random.Generator, probability: float = CHANNEL_DROPOUT) -> int | None:
    """The channel to drop, uniform over the three; None with probability ``1 - probability``."""
    chance, channel = rng.random(), int(rng.integers(3))  # both are always drawn: what follows does not shift
    return channel if chance < probability else None


def draw_dilation(rng: np.random.Generator, size_hw: tuple[int, int], fraction: tuple[float, float]) -> float:
    """A dilation radius in pixels: uniform in ``fraction`` of the shorter side."""
    return float(rng.uniform(*fraction)) * min(size_hw)


def dilate_mask(mask: BoolMap, radius: float) -> BoolMap:
    """Every pixel within ``radius`` pixels (between centres) of the mask; (H, W) bool, a new array."""
    reach = math.floor(radius)
    if reach < 1 or not mask.any():
        return mask.copy()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = max(0, rows[0] - reach), min(mask.shape[0], rows[-1] + 1 + reach)
    left, right = max(0, columns[0] - reach), min(mask.shape[1], columns[-1] + 1 + reach)
    dilated = mask.copy()
    dilated[top:bottom, left:right] = _dilate_crop(mask[top:bottom, left:right], reach, radius)
    return dilated


def _dilate_crop(mask: BoolMap, reach: int, radius: float) -> BoolMap:
    """A disk is a stack of row segments: rows are widened step by step, and each width is shifted up and down."""
    out = np.zeros_like(mask)
    wide, width = mask.copy(), 0
    for shift in range(reach, -1, -1):
        while width < math.floor(math.sqrt(radius**2 - shift**2)):
            width += 1
            wide[:, width:] |= mask[:, :-width]
            wide[:, :-width] |= mask[:, width:]
        if shift == 0:
            out |= wide
        elif shift < len(mask):
            out[shift:] |= wide[:-shift]
            out[:-shift] |= wide[shift:]
    return out


def jitter_box(
    xyxy: tuple[float, float, float, float],
    rng: np.random.Generator,
    radius: float = 0.0,
    aspect: float = ASPECT_JITTER,
) -> tuple[float, float, float, float]:
    """A 2D box grown by ``radius`` pixels on each side, width over height changed by up to ``aspect``, same centre."""
    x0, y0, x1, y1 = xyxy
    ratio = math.sqrt(1 + rng.uniform(-aspect, aspect))
    half_width, half_height = ((x1 - x0) / 2 + radius) * ratio, ((y1 - y0) / 2 + radius) / ratio
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height
