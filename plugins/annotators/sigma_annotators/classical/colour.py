"""Colours as people name and see them: CIE Lab, and what a named colour becomes in light and shadow."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NAMED = {
    "red": (200, 30, 30), "orange": (245, 130, 20), "yellow": (245, 220, 45), "green": (35, 150, 55),
    "teal": (15, 130, 135), "blue": (35, 90, 225), "navy": (25, 35, 100), "purple": (130, 55, 170),
    "pink": (245, 150, 190), "brown": (115, 70, 35), "grey": (148, 148, 152), "gray": (148, 148, 152),
    "black": (30, 30, 34), "white": (240, 240, 240),
}  # fmt: skip
"""Usual meanings, sRGB."""
NEUTRAL = frozenset({"grey", "gray", "black", "white"})
"""Told apart by their brightness alone."""
SHADES = (1.15, 1.0, 0.85, 0.7, 0.57, 0.46, 0.36)
"""Factors of a surface's colour from bright light to deep shadow."""

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def lab(srgb: NDArray[np.generic]) -> Array:
    """(..., 3) sRGB in 0..255 -> (..., 3) CIE L*a*b* under D65."""
    share = np.asarray(srgb, np.float64) / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def colour_word(caption: str) -> str | None:
    """The first colour that a caption names."""
    return next((word for word in re.findall(r"[a-z]+", caption.lower()) if word in NAMED), None)


def shaded(colours: Array, shades: tuple[float, ...]) -> Array:
    """(K, 3) sRGB in 0..255 -> (S, K, 3) Lab of the colours in each light."""
    lit = np.clip(np.asarray(colours)[None] * np.asarray(shades)[:, None, None], 0, 255)
    return lab(lit)


def nearest(pixels: Array, centres: Array, brightness_weight: float) -> Array:
    """(P,) distance of (P, 3) Lab pixels from the nearest of (K, 3) centres; brightness counts by the weight."""
    from scipy.spatial import cKDTree

    scale = np.array([brightness_weight, 1, 1])
    found: Array = cKDTree(centres * scale).query(pixels * scale)[0]
    return found


def clusters(points: Array, count: int, rounds: int = 12) -> Array:
    """(count, 3) centres of a k-means that starts at evenly spaced points of the sorted brightness."""
    order = points[np.argsort(points.sum(axis=1), kind="stable")]
    centres = order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]
    for _ in range(rounds):
        owner = ((points[:, None] - centres[None]) ** 2).sum(axis=-1).argmin(axis=1)
        centres = np.array(
            [points[owner == k].mean(axis=0) if (owner == k).any() else centres[k] for k in range(len(centres))]
        )
    return centres
