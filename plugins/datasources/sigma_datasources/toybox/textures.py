"""Textures in a solid's own coordinates, so that they stick to it in any pose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_CAP = 0.9
"""A round solid's surface facing up or down more than this is one of its flat ends."""


def surface_coordinates(
    points: Array, normals: Array, wrap: Literal["box", "round"], flat_ends: bool, cells: float
) -> tuple[Array, Array]:
    """(u, v) in cells of the pattern; v runs down the sides.

    Args:
        points: (3, P) in the solid's own frame, in units of its mean half size.
        normals: (3, P) unit normals in that frame.
        wrap: face by face, or around the y axis.
        flat_ends: whether a round solid has flat ends.
        cells: pattern cells per unit length.
    """
    x, y, z = points
    if wrap == "round":
        around = max(2, 2 * round(math.pi * cells))  # even, so that patterns of period two close
        u = _turns(x, z) * np.float32(around)
        v = y * np.float32(cells)
        if flat_ends:
            end = np.abs(normals[1]) > _CAP
            u, v = np.where(end, x * cells, u), np.where(end, z * cells, v)
        return u, v
    across, up, along = np.abs(normals)
    # Unequal weights: an octahedron's faces lean to no axis, and rounding must not choose.
    across = across * 1.1
    on_x = (across >= along) & (across >= up * 0.8)
    on_y = ~on_x & (up * 0.8 > along)
    u = np.where(on_x, z, x) * np.float32(cells)
    v = np.where(on_y, z, y) * np.float32(cells)
    return u, v


def _turns(x: Array, z: Array) -> Array:
    """atan2(x, z) / 2 pi to 1e-5, four times as fast as ``np.arctan2``."""
    wide, deep = np.abs(x), np.abs(z)
    low, high = np.minimum(wide, deep), np.maximum(wide, deep)
    t = low / np.maximum(high, np.float32(1e-20))
    s = t * t
    # Abramowitz and Stegun 4.4.49, shortened, error 1e-5 rad.
    angle = t * (0.9998660 + s * (-0.3302995 + s * (0.1801410 + s * (-0.0851330 + s * 0.0208351))))
    angle *= np.float32(1 / (2 * math.pi))
    angle += (wide > deep) * (np.float32(0.25) - 2 * angle)
    angle += (z < 0) * (np.float32(0.5) - 2 * angle)
    return np.copysign(angle, x)


def _fraction(values: Array) -> Array:
    return values - np.floor(values)


def _hash(i: Array, j: Array) -> NDArray[np.int32]:
    """0..1023 per cell, the same on every machine."""
    mixed = i.astype(np.int32) * np.int32(7919) + j.astype(np.int32) * np.int32(104729)
    mixed = (mixed ^ (mixed >> np.int32(7))) * np.int32(31337)
    return (mixed ^ (mixed >> np.int32(9))) & np.int32(1023)


def _plain(u: Array, v: Array, y: Array) -> Array:
    return np.zeros_like(u)


def _striped(u: Array, v: Array, y: Array) -> Array:
    return (_fraction(v) < 0.45).astype(np.float32)


def _barred(u: Array, v: Array, y: Array) -> Array:
    return (_fraction(u) < 0.45).astype(np.float32)


def _checkered(u: Array, v: Array, y: Array) -> Array:
    return ((_fraction(u) < 0.5) ^ (_fraction(v) < 0.5)).astype(np.float32)


def _dotted(u: Array, v: Array, y: Array) -> Array:
    return ((_fraction(u) - 0.5) ** 2 + (_fraction(v) - 0.5) ** 2 < 0.095).astype(np.float32)


def _faded(u: Array, v: Array, y: Array) -> Array:
    return np.clip(y * 0.6 + 0.4, 0, 1)


def _halved(u: Array, v: Array, y: Array) -> Array:
    return (y > 0.08).astype(np.float32)


def _gridded(u: Array, v: Array, y: Array) -> Array:
    return ((_fraction(u) < 0.2) | (_fraction(v) < 0.2)).astype(np.float32)


def _speckled(u: Array, v: Array, y: Array) -> Array:
    u, v = u * 2, v * 2
    i, j = np.floor(u), np.floor(v)
    noise = _hash(i, j)
    du = u - i - 0.35 - (noise & 15) * np.float32(0.02)
    dv = v - j - 0.35 - (noise >> 6) * np.float32(0.02)
    return ((du * du + dv * dv < 0.1) & ((noise >> 2) % 3 != 0)).astype(np.float32)


def _diagonal(u: Array, v: Array, y: Array) -> Array:
    return (_fraction(u + v) < 0.45).astype(np.float32)


def _zigzag(u: Array, v: Array, y: Array) -> Array:
    return (_fraction(v + np.abs(_fraction(u) - 0.5) * 1.2) < 0.45).astype(np.float32)


def _ringed(u: Array, v: Array, y: Array) -> Array:
    du, dv = _fraction(u * 0.5 + 0.5) - 0.5, _fraction(v * 0.5 + 0.5) - 0.5
    return (_fraction(np.sqrt(du * du + dv * dv) * 3.4 + 0.5) < 0.5).astype(np.float32)


Pattern = Callable[[Array, Array, Array], Array]
PATTERNS: dict[str, Pattern] = {
    "plain": _plain,
    "striped": _striped,
    "barred": _barred,
    "checkered": _checkered,
    "dotted": _dotted,
    "faded": _faded,
    "halved": _halved,
    "gridded": _gridded,
    "speckled": _speckled,
    "diagonal": _diagonal,
    "zigzag": _zigzag,
    "ringed": _ringed,
}
"""(u, v, height -1..1 downwards) -> share of the second colour in 0..1."""
