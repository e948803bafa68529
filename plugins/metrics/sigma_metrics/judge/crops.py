"""Cut-outs of subjects: on white, framed as identity images are, so that both can be compared."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sigma_metrics.judge.architecture import CROP

PADDING = 1.3
"""Side of the cut-out over the longer side of the subject, as in identity images."""


def picture_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1  # a copy: pictures may be read-only


def cut_out(image: Tensor, mask: Tensor, padding: float = PADDING, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """One subject on white.

    Args:
        image: (3, H, W) in [-1, 1].
        mask: (H, W) in 0..1, with a pixel; what is 0 becomes white.
        padding: side of the cut-out over the longer side of the mask's box.
        shift: of the frame, in sides of the cut-out.

    Returns:
        (3, 64, 64) in [-1, 1]; white outside the picture too.
    """
    on_white = (image + 1) * mask - 2 * mask  # 0 is white here, so that what lies outside the picture is white too
    rows, columns = torch.nonzero(mask.amax(1)).flatten(), torch.nonzero(mask.amax(0)).flatten()
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(y1 - y0, x1 - x0) * padding
    height, width = mask.shape
    centre_x, centre_y = (x0 + x1) / 2 + shift[0] * side, (y0 + y1) / 2 + shift[1] * side
    frame = torch.tensor([[[side / width, 0, 2 * centre_x / width - 1], [0, side / height, 2 * centre_y / height - 1]]])
    grid = functional.affine_grid(frame.to(image), [1, 3, CROP, CROP], align_corners=False)
    return functional.grid_sample(on_white[None], grid, padding_mode="zeros", align_corners=False)[0] + 1


def identity_tensor(identity: NDArray[np.uint8]) -> Tensor:
    """An identity image, (S, S, 3) uint8 -> (3, 64, 64) in [-1, 1]."""
    picture = picture_tensor(identity)
    if picture.shape[-2:] == (CROP, CROP):
        return picture
    return functional.interpolate(picture[None], size=(CROP, CROP), mode="bilinear", antialias=True)[0]
