"""The pictures of a sample: their bytes, and depth as 16-bit levels. It knows nothing of records and documents."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.errors import DataError
from sigma_framework.shards.document import DepthFacts
from sigma_framework.types import FloatMap

MAX_PIXELS = 50_000_000
"""Of one member; ten masks of 2,048 pixels fit."""
_MILLIMETRES = 1000.0
_STEPS = 65534.0
"""Between value 1 (near) and value 65535 (far) of a scaled depth picture."""
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_MODES = {"target": "RGB", "identities": "RGB", "masks": "1", "depth": "I;16"}


def picture_file(pixels: NDArray[Any], suffix: str, quality: int) -> bytes:
    """The bytes of ``png``, ``jpg`` or ``webp``; equal pixels give equal bytes. ``quality`` is not PNG's."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if suffix == "png":
        image.save(buffer, format="PNG")
    elif suffix == "jpg":
        image.save(buffer, format="JPEG", quality=quality, subsampling=0)
    else:
        image.save(buffer, format="WEBP", quality=quality)
    return buffer.getvalue()


def picture_pixels(member: tuple[str, bytes], part: str, size: tuple[int, int], place: str) -> NDArray[Any]:
    """Decoded only after the header says what the document says, so that a small file cannot ask for much memory.

    Args:
        member: (suffix, content).
        part: of the sample.
        size: width and height that the document gives it.
        place: named in messages.

    Raises:
        DataError: damaged, of another size or mode, or too large.
    """
    suffix, content = member
    name = f"{place}.{part}.{suffix}"
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{name}: {size[0] * size[1] / 1e6:.0f} megapixels, the limit is {MAX_PIXELS // 10**6}")
    try:
        image = Image.open(io.BytesIO(content), formats=[_FORMATS[suffix]])
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise DataError(f"{name}: not a readable {_FORMATS[suffix]} picture") from error
    mode = "I;16" if image.mode == "I" and part == "depth" else image.mode
    if image.size != size or mode != _MODES[part]:
        found = f"{image.size[0]}x{image.size[1]} pixels of mode {image.mode}"
        raise DataError(f"{name}: found {found}, expected {size[0]}x{size[1]} of mode {_MODES[part]}")
    try:
        image.load()
    except Exception as error:
        raise DataError(f"{name}: cut off or damaged") from error
    return np.asarray(image)


def depth_levels(
    depth: FloatMap | None, kind: str, size_hw: tuple[int, int]
) -> tuple[NDArray[np.uint16], dict[str, Any] | None]:
    """16-bit levels and how to read them; millimetres where they fit."""
    if depth is None:
        return np.zeros(size_hw, np.uint16), None
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.zeros(size_hw, np.uint16), None
    near, far = float(depth[known].min()), float(depth[known].max())
    if kind == "metric" and near >= 1 / _MILLIMETRES and far <= 65535 / _MILLIMETRES:
        levels = np.where(known, np.rint(np.where(known, depth, 0) * _MILLIMETRES), 0)
        return levels.astype(np.uint16), {"kind": "metric_mm"}
    share = (np.where(known, depth, near) - near) / max(far - near, 1e-12)
    levels = np.where(known, 1 + np.rint(share * _STEPS), 0).astype(np.uint16)
    return levels, {"kind": "metric" if kind == "metric" else "relative", "near": near, "far": far}


def depth_values(levels: NDArray[Any], facts: DepthFacts | None) -> FloatMap | None:
    """(H, W) metres (or units that nobody knows), 0 where unknown."""
    if facts is None:
        return None
    if facts.kind == "metric_mm":
        return (levels / np.float32(_MILLIMETRES)).astype(np.float32)
    assert facts.near is not None and facts.far is not None
    values = facts.near + (facts.far - facts.near) * (levels.astype(np.float64) - 1) / _STEPS
    return np.where(levels > 0, values, 0).astype(np.float32)
