"""Position ids (T, row, column, L), one per 16 x 16 pixels: what tells the three roles apart (section 4.1)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

REFERENCE_TIME = 10
"""T of the identity image's tokens: what ``Flux2KleinPipeline`` gives its first reference (the next would have 20)."""
TIME = {"target": 0, "spatial": 0, "identity": REFERENCE_TIME}
"""T by role; ``I^C`` lies on the noisy image, as the method has it."""


@lru_cache(maxsize=128)
def image_ids(role: str, rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 4) int64, row by row, L = 0; shared between calls, not to be written to."""
    ids = torch.zeros(rows, columns, 4, dtype=torch.int64, device=device)
    ids[..., 0] = TIME[role]
    ids[..., 1] = torch.arange(rows, device=device)[:, None]
    ids[..., 2] = torch.arange(columns, device=device)[None, :]
    return ids.flatten(0, 1)


@lru_cache(maxsize=16)
def text_ids(length: int, device: torch.device) -> Tensor:
    """(length, 4) int64: (0, 0, 0, place in the text); shared between calls, not to be written to."""
    ids = torch.zeros(length, 4, dtype=torch.int64, device=device)
    ids[:, 3] = torch.arange(length, device=device)
    return ids
