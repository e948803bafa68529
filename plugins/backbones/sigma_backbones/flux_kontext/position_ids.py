"""Position ids (t, row, column), one per 16 x 16 pixels: what tells the three roles apart (section 4.1)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sigma_framework import Tokens

REFERENCE_TIME = 1.0
"""First coordinate of the identity image's tokens; the noisy image and ``I^C`` have 0, as FLUX.1 Kontext does it."""
FIRST_COORDINATE = {"target": 0.0, "spatial": 0.0, "identity": REFERENCE_TIME}
"""By role."""


@lru_cache(maxsize=128)
def image_ids(role: str, rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 3) float32, row by row; shared between calls, not to be written to."""
    ids = torch.empty(rows, columns, 3, device=device)
    ids[..., 0] = FIRST_COORDINATE[role]
    ids[..., 1] = torch.arange(rows, device=device)[:, None]
    ids[..., 2] = torch.arange(columns, device=device)[None, :]
    return ids.flatten(0, 1)


@lru_cache(maxsize=16)
def text_ids(length: int, device: torch.device) -> Tensor:
    """(length, 3) zeros; shared between calls, not to be written to."""
    return torch.zeros(length, 3, device=device)


def joined_ids(x: Tokens, conditions: tuple[Tokens, ...]) -> Tensor:
    """(l, 3) ids of the image tokens in the order of the sequence."""
    return torch.cat([x.ids, *(tokens.ids for tokens in conditions)]) if conditions else x.ids
