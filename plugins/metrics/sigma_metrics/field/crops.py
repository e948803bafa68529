"""Which part of an image is compared with which identity image (section 4.2)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sigma_framework import Result


def subject_crops(result: Result, number: int) -> list[Image.Image]:
    """One subject: the whole image. Several: a crop at each subject's box, in scene order.

    The box is the smallest that holds the region that was asked for.
    """
    image, regions = result.images[number].convert("RGB"), result.controls.regions
    if len(regions) == 1:
        return [image]
    crops = []
    for region in regions:
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        crops.append(image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)))
    return crops


def identity_pictures(result: Result) -> list[Image.Image]:
    """The blocks of ``I^S``, in scene order."""
    return [Image.fromarray(block) for block in np.split(result.controls.identity, len(result.controls.regions))]
