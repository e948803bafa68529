"""``I^S``: one square block per subject on white, stacked along the height (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.types import BoolMap, RgbImage

PADDING = 1.3
"""Side of a cut-out subject's square over its longer side, as in the paper's figures."""
WHITE = 255


def square_on_white(image: RgbImage, size: int, cutout: BoolMap | None = None, padding: float = PADDING) -> RgbImage:
    """One identity picture as a (size, size, 3) uint8 block.

    Args:
        image: (H', W', 3) uint8. Without ``cutout`` all of it is fitted into the square, centred on white.
        size: side of the block, pixels.
        cutout: (H', W') bool, where the subject is: it is cropped to its box, put on white and padded.
        padding: side of the square over the longer side of the cut-out's box, at least 1.
    """
    if cutout is not None:
        rows, columns = np.flatnonzero(cutout.any(axis=1)), np.flatnonzero(cutout.any(axis=0))
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    else:
        padding = 1.0
    height, width = image.shape[:2]
    scale = size / (max(height, width) * padding)
    fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels: NDArray[np.uint8] = image
    if fitted != (width, height):
        pixels = np.asarray(Image.fromarray(image).resize(fitted, Image.Resampling.LANCZOS))
    block = np.full((size, size, 3), WHITE, dtype=np.uint8)
    top, left = (size - fitted[1]) // 2, (size - fitted[0]) // 2
    block[top : top + fitted[1], left : left + fitted[0]] = pixels
    return block


def stack(blocks: Sequence[RgbImage]) -> RgbImage:
    """N blocks of one size -> (N*H', W', 3) uint8, subject order.

    Raises:
        ValueError: no block, or blocks of different sizes.
    """
    shapes = {block.shape for block in blocks}
    if len(shapes) != 1:
        raise ValueError(f"identity blocks must have one size, found {sorted(shapes) or 'none'}")
    return np.concatenate(blocks, axis=0)
