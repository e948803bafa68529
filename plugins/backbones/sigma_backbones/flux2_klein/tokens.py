"""Latents <-> tokens: 2 x 2 latents of 32 channels make one token of 128 numbers, normalised by BatchNorm statistics.

FLUX.2 packs as FLUX.1 does (channel, row, column inside a token). Its VAE has no scaling factor: the running mean and
variance of ``vae.bn``, one pair per number of a token, take that place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sigma_backbones.flux_kontext.tokens import PATCH, encode_mode, pack, unpack

__all__ = ["PATCH", "denormalise", "encode_blocks", "encode_mode", "normalise", "pack", "unpack"]


def normalise(values: Tensor, vae: Any) -> Tensor:
    """Packed latents (b, l, 128) -> what the transformer works on: ``(z - mean) / sqrt(variance + eps)``."""
    mean, deviation = _statistics(vae, values)
    return (values - mean) / deviation


def denormalise(values: Tensor, vae: Any) -> Tensor:
    """The reverse of ``normalise``."""
    mean, deviation = _statistics(vae, values)
    return values * deviation + mean


def encode_blocks(vae: Any, images: Tensor) -> Tensor:
    """Latents of a stack of square blocks (b, 3, n * s, s), each encoded alone.

    Raises:
        ValueError: the height is no multiple of the width.
    """
    batch, channels, height, side = images.shape
    if height % side:
        raise ValueError(f"identity blocks must be square, found a stack of {side} x {height} pixels")
    blocks = images.reshape(batch, channels, height // side, side, side).transpose(1, 2).flatten(0, 1)
    latents = encode_mode(vae, blocks).unflatten(0, (batch, -1))
    return latents.transpose(1, 2).flatten(2, 3)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (128,) each, where and as ``like`` is."""
    deviation = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
    return vae.bn.running_mean.to(like), deviation.to(like)
