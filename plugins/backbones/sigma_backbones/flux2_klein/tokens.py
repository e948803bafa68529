"""Latents <-> tokens: 2 x 2 latents of 32 channels make one token of 128 numbers, normalised by BatchNorm statistics.

FLUX.2 packs as FLUX.1 does (channel, row, column inside a token). Its VAE has no scaling factor: the running mean and
variance of ``vae.bn``, one pair per number of a token, take that place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sigma_backbones.flux_kontext.tokens import encode_blocks, encode_mode, pack, unpack

__all__ = ["denormalise", "encode_blocks", "encode_mode", "normalise", "pack", "unpack"]


def normalise(values: Tensor, vae: Any) -> Tensor:
    """Packed latents (b, l, 128) -> what the transformer works on: ``(z - mean) / sqrt(variance + eps)``."""
    mean, deviation = _statistics(vae, values)
    return (values - mean) / deviation


def denormalise(values: Tensor, vae: Any) -> Tensor:
    """The reverse of ``normalise``."""
    mean, deviation = _statistics(vae, values)
    return values * deviation + mean


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (128,) each, where and as ``like`` is."""
    deviation = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
    return vae.bn.running_mean.to(like), deviation.to(like)
