"""Procedural pictures with the statistics of photographs: the pocket VAE must survive what users bring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sigma_backbones.arrays import FloatMap, RgbImage

Rng = np.random.Generator


def draw_texture(size: int, rng: Rng) -> RgbImage:
    """One (size, size, 3) uint8 picture: dead leaves, coloured noise with a 1/f spectrum, a gradient, or a mix."""
    makers = (_dead_leaves, _spectral_noise, _gradient, _leaves_with_noise)
    picture = makers[int(rng.choice(4, p=(0.35, 0.25, 0.15, 0.25)))](size, rng)
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def smooth_field(size: int, rng: Rng, exponent: float) -> NDArray[np.float64]:
    """(size, size) noise with mean 0, variance 1 and amplitude spectrum 1 / f**exponent."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**exponent
    field = np.fft.irfft2(spectrum, s=(size, size))
    return (field - field.mean()) / (field.std() + 1e-9)


def _spectral_noise(size: int, rng: Rng) -> NDArray[np.float64]:
    """Correlated colour channels, as in photographs."""
    exponent = rng.uniform(0.8, 2.0)
    shared = smooth_field(size, rng, exponent)
    channels = [0.8 * shared + 0.4 * smooth_field(size, rng, exponent) for _ in range(3)]
    return rng.uniform(0.2, 0.8, 3) + rng.uniform(0.08, 0.25) * np.stack(channels, axis=-1)


def _gradient(size: int, rng: Rng) -> NDArray[np.float64]:
    """Bilinear between four random corner colours."""
    corners = rng.uniform(0, 1, (2, 2, 3))
    along = np.linspace(0, 1, size)
    top = corners[0, 0] + along[:, None] * (corners[0, 1] - corners[0, 0])
    bottom = corners[1, 0] + along[:, None] * (corners[1, 1] - corners[1, 0])
    return top[None] + along[:, None, None] * (bottom - top)[None]


def _dead_leaves(size: int, rng: Rng) -> NDArray[np.float64]:
    """Discs and rectangles whose radii follow a power law, each covering the ones before."""
    picture = _gradient(size, rng)
    for _ in range(int(rng.integers(15, 90))):
        radius = min(size / 2, 0.02 * size * (1 - rng.uniform()) ** -0.7)
        row, column = rng.uniform(0, size, 2)
        top, bottom = (int(np.clip(v, 0, size)) for v in (row - radius, row + radius + 1))
        left, right = (int(np.clip(v, 0, size)) for v in (column - radius, column + radius + 1))
        if bottom <= top or right <= left:
            continue
        patch = picture[top:bottom, left:right]
        colour = rng.uniform(0, 1, 3)
        if rng.uniform() < 0.3:
            patch[:] = colour
            continue
        rows, columns = np.arange(top, bottom)[:, None] + 0.5, np.arange(left, right)[None, :] + 0.5
        patch[np.hypot(rows - row, columns - column) < radius] = colour
    return picture


def _leaves_with_noise(size: int, rng: Rng) -> NDArray[np.float64]:
    """Dead leaves under uneven light and fine grain."""
    light = 1 + 0.2 * smooth_field(size, rng, 2.0)[..., None]
    grain = rng.uniform(0.0, 0.06) * smooth_field(size, rng, 0.5)[..., None]
    return _dead_leaves(size, rng) * light + grain


def smooth_depth(size: int, rng: Rng) -> FloatMap:
    """(size, size) float32 inverse depth of one imagined subject: a tilted, slightly bulging surface."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    row, column = rng.uniform(0, 1, 2)
    tilt = rng.uniform(-0.3, 0.3, 2)
    bulge = rng.uniform(0, 0.4) * np.exp(-(((rows - row) ** 2 + (columns - column) ** 2) * rng.uniform(4, 30)))
    depth = rng.uniform(0.2, 1.0) + tilt[0] * (rows - row) + tilt[1] * (columns - column) + bulge
    return np.maximum(depth, 0.02).astype(np.float32)
