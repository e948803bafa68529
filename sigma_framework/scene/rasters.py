"""Masks and depth maps: what a picture's values mean as (H, W) bool and as depth."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.scene.files import InputFault, read_file
from sigma_framework.scene.pictures import (
    DEPTH_FORMATS,
    MASK_FORMATS,
    check_size,
    decode_picture,
    has_alpha,
    sniff,
)
from sigma_framework.types import BoolMap, DepthRaster

DepthReading = Literal["metric_m", "metric_mm", "disparity"]
DEPTH_READINGS: tuple[DepthReading, ...] = get_args(DepthReading)
"""What the values of a depth file are: metres, millimetres, or relative inverse depth (near bright)."""

_COLOUR_TOLERANCE = 8
"""JPEG moves equal channels apart by a few levels."""
_SMOOTH_SHARE = 0.05
"""More in-between pixels than this, and a mask was smoothed or is not a mask."""


def read_mask(source: Any, path: Path | None, warnings: list[str]) -> BoolMap:
    """(H, W) bool of a mask file, PIL image or array.

    Grey and RGB: 128 and more (of two values, the larger one); palette: every index but 0, unless the palette is grey;
    with transparency: what is opaque.

    Raises:
        InputFault: no mask, or a mask without a pixel.
    """
    values = _pixels(source, path, MASK_FORMATS, warnings)
    mask = _mask_of_array(values, warnings) if isinstance(values, np.ndarray) else _mask_of_image(values, warnings)
    if not mask.any():
        raise InputFault("the mask has no pixels", "paint the subject white (128 or more)")
    if mask.all():
        warnings.append("the mask covers the whole picture")
    return mask


def read_depth(source: Any, path: Path | None, reading: str | None, warnings: list[str]) -> DepthRaster:
    """A depth map as metres or relative inverse depth.

    Args:
        source: a PIL image, an array or a ``DepthRaster`` (taken as it is), used when ``path`` is None.
        path: the file: PNG, TIFF, or ``.npy``.
        reading: one of ``DEPTH_READINGS``; None: 8 bits are disparity, 16 bits millimetres, floats metres.
        warnings: receives what a user should know.

    Raises:
        InputFault: no depth map, or the values' meaning is unclear.
    """
    if isinstance(source, DepthRaster):
        return source
    values = depth_values(_pixels(source, path, DEPTH_FORMATS, warnings))
    if reading is None:
        reading = _usual_reading(values)
    elif reading not in DEPTH_READINGS:
        raise InputFault(f'found "{reading}", expected one of {", ".join(DEPTH_READINGS)}')
    if reading == "disparity":
        return DepthRaster(values=values.astype(np.float32), kind="disparity")
    scale = 1000.0 if reading == "metric_mm" else 1.0
    return DepthRaster(values=(values / scale).astype(np.float32), kind="metric")


def read_structure(source: Any, path: Path | None, warnings: list[str]) -> NDArray[np.uint8] | DepthRaster:
    """Depth of the whole scene: an 8-bit map as it is, anything else as ``read_depth`` reads it."""
    if isinstance(source, DepthRaster):
        return source
    values = depth_values(_pixels(source, path, DEPTH_FORMATS, warnings))
    if values.dtype == np.uint8:
        return values
    return read_depth(values, None, None, warnings)


def depth_values(values: Image.Image | NDArray[Any]) -> NDArray[Any]:
    """(H, W) numbers of a depth picture in their own type; three equal channels count as one."""
    if not isinstance(values, np.ndarray):
        if values.mode in ("1", "CMYK", "LAB", "HSV", "YCbCr"):
            raise InputFault(f"a picture of mode {values.mode} is not a depth map")
        values = np.asarray(values if values.mode in ("L", "F") or values.mode[0] == "I" else values.convert("RGB"))
    if values.ndim == 3:
        channels = values[:, :, : min(3, values.shape[2])]
        if values.shape[2] not in (1, 3, 4) or (channels != channels[:, :, :1]).any():
            raise InputFault("found different colour channels: this is not a depth map", "give one grey channel")
        values = channels[:, :, 0]
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InputFault(f"found an array of shape {values.shape} and type {values.dtype}, expected (H, W) numbers")
    return values


def load_npy(content: bytes, name: str) -> NDArray[Any]:
    """An array of a ``.npy`` file without running anything in it.

    Raises:
        InputFault: damaged, holds objects, or is larger than the file can hold.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    except Exception:
        raise InputFault(f'"{name}" is a damaged .npy file') from None
    if dtype.hasobject:
        raise InputFault(f'"{name}" holds Python objects, which may run code', "save plain numbers")
    if len(shape) < 2 or len(shape) > 3 or dtype.kind not in "buif":
        raise InputFault(f'"{name}" holds {dtype} of shape {shape}, expected (H, W) numbers')
    check_size(shape[1], shape[0], name)
    if int(np.prod(shape)) * dtype.itemsize > len(content) - stream.tell():
        raise InputFault(f'"{name}" is cut off', "copy or save the file again")
    stream.seek(0)
    return np.asarray(np.load(stream, allow_pickle=False))


def _pixels(
    source: Any, path: Path | None, formats: tuple[str, ...], warnings: list[str]
) -> Image.Image | NDArray[Any]:
    if path is None:
        if isinstance(source, np.ndarray):
            check_size(source.shape[1] if source.ndim > 1 else 1, len(source) if source.ndim else 1, "array")
            return source
        if not isinstance(source, Image.Image):
            raise InputFault(f"found {type(source).__name__}, expected a file name, a PIL image or an array")
        return source
    content = read_file(path)
    if sniff(content) == "NPY":
        return load_npy(content, path.name)
    return decode_picture(content, path.name, formats, warnings)


def _mask_of_image(image: Image.Image, warnings: list[str]) -> BoolMap:
    if has_alpha(image):
        rgba = np.asarray(image.convert("RGBA"))
        if rgba[:, :, 3].min() < 255:
            return _threshold(rgba[:, :, 3], warnings)
        return _mask_of_array(rgba[:, :, :3], warnings)
    if image.mode == "P":
        colours = np.asarray(image.convert("RGB"))
        is_grey = (colours == colours[:, :, :1]).all()
        return _threshold(colours[:, :, 0], warnings) if is_grey else np.asarray(image) > 0
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return _mask_of_array(np.asarray(image), warnings)
    return _mask_of_array(np.asarray(image.convert("RGB")), warnings)


def _mask_of_array(values: NDArray[Any], warnings: list[str]) -> BoolMap:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8:
        return _mask_of_colours(values, warnings)
    if values.ndim != 2 or values.dtype.kind not in "buif" or values.size == 0:
        raise InputFault(f"found an array of shape {values.shape} and type {values.dtype}, expected (H, W) bool")
    if values.dtype == np.bool_:
        return values.copy()
    if values.dtype == np.uint8:
        return _threshold(values, warnings)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputFault("the mask holds NaN or infinity")
        return np.asarray(values >= 0.5 * max(1.0, float(values.max())))
    return np.asarray(values.astype(np.int64) * 2 >= max(1, int(values.max())))


def _mask_of_colours(values: NDArray[np.uint8], warnings: list[str]) -> BoolMap:
    if values.shape[2] == 4 and values[:, :, 3].min() < 255:
        return _threshold(values[:, :, 3], warnings)
    colours = values[:, :, :3].astype(np.int16)
    if int(np.ptp(colours, axis=2).max()) <= _COLOUR_TOLERANCE:
        return _threshold(values[:, :, 1], warnings)
    codes = (colours.astype(np.int64) * (1 << 16, 1 << 8, 1)).sum(axis=2)
    kinds = np.unique(codes)
    if len(kinds) == 2 and kinds[0] == 0:  # one colour on black
        return np.asarray(codes > 0)
    raise InputFault(f"a colour picture with {len(kinds)} colours is not a mask", "give black and white")


def _threshold(levels: NDArray[np.uint8], warnings: list[str]) -> BoolMap:
    counts = np.bincount(levels.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    if len(found) == 1:
        return np.asarray(levels > 0)
    if len(found) == 2:
        return np.asarray(levels == found[1])
    between = 1 - (counts[0] + counts[255]) / levels.size
    if between > _SMOOTH_SHARE:
        warnings.append(f"the mask has {len(found)} grey levels; pixels of 128 and more are taken")
    return np.asarray(levels >= 128)


def _usual_reading(values: NDArray[Any]) -> DepthReading:
    if values.dtype == np.uint8:
        return "disparity"
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return "metric_mm"
    if values.dtype.kind == "f":
        return "metric_m"
    raise InputFault(f"it is unclear what {values.dtype} values mean", f"set depth_kind: {', '.join(DEPTH_READINGS)}")
