"""What MUSIQ reads of a picture: sizes of it, patches, and where each patch lies on a grid of fixed size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PATCH = 32
"""Side of a patch, pixels."""
_RADIUS, _SIGMA = 1.5, 0.5
"""Of the Gaussian that the authors resize with, in pixels of the picture that is read, however much smaller it gets."""

Floats = NDArray[np.float32]


def resized(picture: Floats, longer_side: int) -> Floats:
    """(h, w, c) with its longer side so long, its shape kept."""
    height, width = picture.shape[:2]
    ratio = np.float32(longer_side) / np.float32(max(height, width))
    rows, columns = (int(np.rint(np.float32(side) * ratio)) for side in (height, width))
    made: Floats = np.einsum(
        "yh,xw,hwc->yxc", _weights(height, rows), _weights(width, columns), picture, optimize=True
    ).astype(np.float32)
    return made


def _weights(before: int, after: int) -> Floats:
    """(after, before): what each pixel takes from each, rows that sum to 1."""
    centres = (np.arange(after) + 0.5) * before / after
    distance = np.arange(before) + 0.5 - centres[:, None]
    weights = np.where(np.abs(distance) < _RADIUS, np.exp(-(distance**2) / (2 * _SIGMA**2)), 0.0)
    made: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return made


def patches_of(picture: Floats) -> Floats:
    """(h, w, c) -> (n, c, 32, 32) row by row; what is missing at the borders is zero, half of it on each side."""
    missing = [-side % PATCH for side in picture.shape[:2]]
    borders = [(lack // 2, lack - lack // 2) for lack in missing]
    padded = np.pad(picture, (*borders, (0, 0)))
    rows, columns = padded.shape[0] // PATCH, padded.shape[1] // PATCH
    cut = padded.reshape(rows, PATCH, columns, PATCH, -1).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(cut.reshape(rows * columns, -1, PATCH, PATCH))


def hashed(count: int, grid: int) -> NDArray[np.int64]:
    """(count,) which of ``grid`` cells each of ``count`` patches of a row or column falls into."""
    return np.minimum(np.arange(count) * grid // count, grid - 1)
