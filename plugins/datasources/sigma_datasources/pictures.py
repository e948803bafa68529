"""Pictures in folders and inside other files: decoded without trusting them, and squared for a source of one size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sigma_framework import Camera, DataError

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MAX_PIXELS = 50_000_000
"""Of one picture."""
FORMATS = ("PNG", "JPEG", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""Of files that hold them."""
USUAL_FOV_Y = 50.0
"""Vertical field of view that pictures are taken to have, degrees."""
_MASK_LEVEL = 128
"""Masks hold the pixels above this level; they may be stored as JPEG."""


def is_picture(file: Path) -> bool:
    """Whether a file has one of ``ENDINGS``; it is not opened."""
    return file.suffix.lower() in ENDINGS and file.is_file()


def read_rgb(file: Path, name: str) -> Rgb:
    """As ``decode_rgb``, of a file.

    Raises:
        DataError: cannot be read, or as there.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    return decode_rgb(content, name)


def decode_rgb(content: bytes, name: str) -> Rgb:
    """(H, W, 3) uint8, upright; what is transparent becomes white.

    Raises:
        DataError: not a picture of ``FORMATS``, cut off, or too large.
    """
    image = _open(content, name)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def decode_mask(content: bytes, name: str, size: tuple[int, int]) -> Mask:
    """(H, W) bool for a picture of ``size`` (width, height); a mask of another size is scaled when its shape fits.

    Raises:
        DataError: as ``decode_rgb``; empty; or of another shape.
    """
    image = _open(content, name).convert("L")
    if image.size != size:
        if abs(image.width * size[1] - image.height * size[0]) > max(size) + max(image.size):
            raise DataError(f"{name}: found {image.width}x{image.height} pixels, the picture has {size[0]}x{size[1]}")
        image = image.resize(size, Image.Resampling.NEAREST)
    mask = np.asarray(image) > _MASK_LEVEL
    if not mask.any():
        raise DataError(f"{name}: the mask is empty")
    return mask


def square_around(picture: Rgb, mask: Mask | None, side: int) -> tuple[Rgb, Mask | None]:
    """The largest square of the picture whose middle is nearest to the mask's, scaled to ``side``.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) bool; None takes the middle.
        side: pixels.
    """
    height, width = picture.shape[:2]
    edge = min(height, width)
    y, x = height / 2, width / 2
    if mask is not None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        y, x = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    top = int(np.clip(round(y - edge / 2), 0, height - edge))
    left = int(np.clip(round(x - edge / 2), 0, width - edge))
    cut = picture[top : top + edge, left : left + edge]
    scaled = np.array(Image.fromarray(cut).resize((side, side), Image.Resampling.LANCZOS))
    if mask is None:
        return scaled, None
    part = Image.fromarray(mask[top : top + edge, left : left + edge].astype(np.uint8) * 255)
    return scaled, np.asarray(part.resize((side, side), Image.Resampling.BOX)) >= _MASK_LEVEL


def usual_camera(side: int) -> dict[str, float]:
    """``camera`` of a record whose picture is a square of ``side`` pixels and says nothing of its own."""
    camera = Camera.from_fov_y(USUAL_FOV_Y, side, side)
    return {field: getattr(camera, field) for field in ("fx", "fy", "cx", "cy")}


def box_of_mask(mask: Mask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 in pixels, right and bottom exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _open(content: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise DataError(f"{name}: not a picture, expected {', '.join(FORMATS)}") from error
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width * image.height / 1e6:.0f} megapixels, the limit is {MAX_PIXELS // 10**6}"
        )
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:
        raise DataError(f"{name}: cut off or damaged") from error
