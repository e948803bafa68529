"""Opening pictures: what is accepted, and RGB pictures as arrays."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sigma_framework.scene.files import InputFault, read_file
from sigma_framework.types import BoolMap, RgbImage

MAX_PIXELS = 50_000_000
"""Largest picture, pixels; a small file can claim any size."""
MIN_SIDE = 8
"""Smallest side of an identity picture or photograph, pixels."""
RGB_FORMATS = ("PNG", "JPEG", "WEBP")
MASK_FORMATS = ("PNG", "JPEG", "WEBP")
DEPTH_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
NPY_SIGNATURE = b"\x93NUMPY"

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\x00": "TIFF", b"MM\x00*": "TIFF", b"GIF8": "GIF",
    b"BM": "BMP", b"8BPS": "PSD", b"%PDF": "PDF", b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"SIMPLE  =": "FITS",
    b"icns": "ICNS", b"<svg": "SVG", b"\x00\x00\x01\x00": "ICO", b"PK\x03\x04": "ZIP", b"\x1f\x8b": "GZIP",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Rgb:
    """An RGB picture after reading."""

    pixels: RgbImage
    """(H, W, 3) uint8; what was transparent is white."""
    cutout: BoolMap | None
    """(H, W) bool: where the picture is opaque; None when it has no transparency."""


def sniff(content: bytes) -> str:
    """The format by its first bytes; empty when unknown."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        return "HEIC or AVIF"
    if content.startswith(NPY_SIGNATURE):
        return "NPY"
    return next((name for signature, name in _SIGNATURES.items() if content.startswith(signature)), "")


def open_picture(path: Path, formats: tuple[str, ...], warnings: list[str]) -> Image.Image:
    """A decoded picture of one of ``formats``.

    Raises:
        InputFault: not a picture, a format that is not allowed, cut off, or more than 50 megapixels.
    """
    return decode_picture(read_file(path), path.name, formats, warnings)


def decode_picture(content: bytes, name: str, formats: tuple[str, ...], warnings: list[str]) -> Image.Image:
    """``open_picture`` for bytes that were read already."""
    found = sniff(content)
    if found not in formats:
        allowed = f"allowed: {', '.join(formats)}"
        if found:
            raise InputFault(f'"{name}" is {found}; {allowed}', "save it in one of them")
        start = content[:24].decode("ascii", errors="replace").strip()
        raise InputFault(f'"{name}" is not an image (starts with {start!r})', allowed)
    try:
        image = Image.open(io.BytesIO(content), formats=[found])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputFault(f'"{name}" has far more than {MAX_PIXELS // 10**6} megapixels', "make it smaller") from None
    except Exception:  # Pillow raises many kinds on damaged files
        raise InputFault(f'"{name}" is a damaged {found} image', "copy or save the file again") from None
    check_size(image.width, image.height, name)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # phones store a second view of the same photograph
        warnings.append(f'"{name}" is animated: frame 1 of {frames} is used')
    try:
        image.load()
    except Exception:
        raise InputFault(f'"{name}" is cut off or damaged', "copy or save the file again") from None
    return image


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture file; None for anything else, whose faults are told where it is read."""
    try:
        with Image.open(path, formats=RGB_FORMATS) as image:
            return image.size
    except Exception:  # Pillow raises many kinds on damaged files
        return None


def check_size(width: int, height: int, name: str) -> None:
    """Raises ``InputFault`` for a picture that is too large to be read."""
    if width * height > MAX_PIXELS:
        megapixels = width * height / 1e6
        raise InputFault(
            f'"{name}" has {megapixels:.0f} megapixels, the limit is {MAX_PIXELS // 10**6}', "make it smaller"
        )


def read_rgb(source: Any, path: Path | None, warnings: list[str]) -> Rgb:
    """An identity picture or a photograph: upright, 8 bits, transparency on white.

    Args:
        source: a PIL image or an array, used when ``path`` is None.
        path: the file.
        warnings: receives what a user should know.
    """
    if path is not None:
        picture = rgb_of_image(open_picture(path, RGB_FORMATS, warnings))
    elif isinstance(source, np.ndarray):
        picture = rgb_of_array(source)
    else:
        picture = rgb_of_image(source)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputFault(f"picture is {width}x{height} pixels, expected at least {MIN_SIDE} on each side")
    return picture


def rgb_of_image(image: Image.Image) -> Rgb:
    """A PIL image of any mode but float as RGB; raises ``InputFault`` when nothing of it is visible."""
    check_size(image.width, image.height, "picture")
    image = upright(image)
    if image.mode == "F":
        raise InputFault("a float picture cannot be shown", "save it as 8-bit RGB")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        levels = np.clip((levels + 128) // 257 if levels.max(initial=0) > 255 else levels, 0, 255)
        return Rgb(np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2), None)
    if has_alpha(image):
        return _on_white(np.asarray(image.convert("RGBA")))
    return Rgb(np.ascontiguousarray(np.asarray(image.convert("RGB"))), None)


def rgb_of_array(values: NDArray[Any]) -> Rgb:
    """(H, W), (H, W, 3) or (H, W, 4) uint8 as RGB."""
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        found = f"an array of shape {values.shape} and type {values.dtype}"
        raise InputFault(f"found {found}, expected (H, W, 3) uint8 in RGB order")
    if values.size == 0:
        raise InputFault("the array is empty")
    if values.ndim == 2:
        return Rgb(np.repeat(values[:, :, None], 3, axis=2), None)
    return _on_white(values) if values.shape[2] == 4 else Rgb(values.copy(), None)


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; a broken EXIF block is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def has_alpha(image: Image.Image) -> bool:
    """Whether some of the picture may be transparent."""
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def _on_white(rgba: NDArray[np.uint8]) -> Rgb:
    alpha = rgba[:, :, 3]
    if not alpha.any():
        raise InputFault("the picture is fully transparent: nothing is visible")
    if alpha.min() == 255:
        return Rgb(np.ascontiguousarray(rgba[:, :, :3]), None)
    weight = alpha[:, :, None].astype(np.uint16)
    blended = (rgba[:, :, :3] * weight + 255 * (255 - weight) + np.uint16(127)) // 255
    cutout = alpha >= 128
    return Rgb(blended.astype(np.uint8), cutout if cutout.any() else alpha > 0)
