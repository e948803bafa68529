"""What the pocket VAE sees: target scenes, mosaics of identity images, control images, textures."""

from __future__ import annotations

import numpy as np

from sigma_backbones.arrays import BoolMap, RgbImage
from sigma_backbones.pocket_training.textures import Rng, draw_texture, smooth_depth
from sigma_framework import DataError, Example

INTENSITY_STEP = 10
"""Intensity of subject i is 10 (i + 1) (section 3.3)."""
DEPTH_FLOOR = 26
"""Depth of the farthest subject pixel in channel 2; the background is 0."""
CHANNEL_DROPOUT = 0.1
"""Probability that one channel of a control image is zero (section 4.1)."""


def draw_picture(example: Example, kind: str, size: int, rng: Rng) -> RgbImage:
    """One (size, size, 3) uint8 training picture of a kind of ``options.KINDS``.

    Raises:
        DataError: the example's target is smaller than ``size``, or its identity images are missing.
    """
    if kind == "scenes":
        return _crop(example.target, example.key, size, rng)
    if kind == "identities":
        return _mosaic(example, size, rng)
    if kind == "controls":
        return draw_control(size, rng, [subject.mask for subject in example.subjects])
    return draw_texture(size, rng)


def draw_control(size: int, rng: Rng, masks: list[BoolMap]) -> RgbImage:
    """A spatial control image in the style of ``I^C``: levels pasted in both orders, and depth (sections 3.3, 3.4)."""
    count = int(rng.integers(1, 11))
    regions = [_region(size, rng, masks) for _ in range(count)]
    image = np.zeros((size, size, 3), dtype=np.uint8)
    inverse_depth = np.zeros((size, size), dtype=np.float32)
    for index, region in enumerate(regions):
        image[region, 0] = INTENSITY_STEP * (index + 1)
        inverse_depth = np.where(region, np.maximum(inverse_depth, smooth_depth(size, rng)), inverse_depth)
    for index in reversed(range(count)):
        image[regions[index], 1] = INTENSITY_STEP * (index + 1)
    covered = inverse_depth > 0
    if rng.uniform() < 0.65 and covered.any():
        near, far = inverse_depth[covered].max(), inverse_depth[covered].min()
        scaled = (inverse_depth - far) / max(float(near - far), 1e-6)
        image[..., 2] = np.where(covered, DEPTH_FLOOR + np.rint((255 - DEPTH_FLOOR) * scaled), 0).astype(np.uint8)
    if rng.uniform() < CHANNEL_DROPOUT:
        image[..., int(rng.integers(3))] = 0
    return image


def _crop(image: RgbImage, key: str, size: int, rng: Rng) -> RgbImage:
    height, width = image.shape[:2]
    if height < size or width < size:
        raise DataError(
            f"{key}: the target is {width} x {height}, expected at least {size} x {size}; lower picture_size"
        )
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    crop = image[top : top + size, left : left + size]
    return crop[:, ::-1] if rng.uniform() < 0.5 else crop


def _mosaic(example: Example, size: int, rng: Rng) -> RgbImage:
    """Identity images side by side, drawn with repetition, cut to the size."""
    if not example.identities:
        raise DataError(f"{example.key}: no identity image; set the share of identities to 0")
    picture = np.full((size, size, 3), 255, dtype=np.uint8)
    top = 0
    while top < size:
        left, row_height = 0, size
        while left < size:
            tile = example.identities[int(rng.integers(len(example.identities)))]
            tile = tile[:, ::-1] if rng.uniform() < 0.5 else tile
            height, width = min(tile.shape[0], size - top), min(tile.shape[1], size - left)
            picture[top : top + height, left : left + width] = tile[:height, :width]
            left, row_height = left + tile.shape[1], min(row_height, tile.shape[0])
        top += row_height
    return picture


def _region(size: int, rng: Rng, masks: list[BoolMap]) -> BoolMap:
    """A filled box, ellipse or polygon, or a subject's own silhouette, cut to the size."""
    shape = int(rng.integers(4))
    if shape == 3 and masks:
        mask = masks[int(rng.integers(len(masks)))][:size, :size]
        region = np.zeros((size, size), dtype=bool)
        region[: mask.shape[0], : mask.shape[1]] = mask
        shift = rng.integers(-size // 4, size // 4 + 1, 2)
        return np.roll(region, (int(shift[0]), int(shift[1])), axis=(0, 1))
    half = rng.uniform(0.06, 0.35, 2) * size
    row, column = rng.uniform(0.05, 0.95, 2) * size
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    down, across = (rows - row) / half[0], (columns - column) / half[1]
    if shape == 0:
        return (np.abs(down) < 1) & (np.abs(across) < 1)
    if shape == 1:
        return down**2 + across**2 < 1
    return _polygon(down, across, rng)


def _polygon(down: np.ndarray, across: np.ndarray, rng: Rng) -> BoolMap:
    """A convex polygon inside the unit circle: the points on the inner side of each of its edges."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    inside = np.ones(down.shape, dtype=bool)
    for first, second in zip(angles, np.roll(angles, -1), strict=True):
        middle = (first + second) / 2 + (np.pi if second < first else 0.0)
        apart = np.cos((second - first) / 2 + (np.pi if second < first else 0.0))
        inside &= down * np.sin(middle) + across * np.cos(middle) < abs(apart) + 0.05
    return inside
