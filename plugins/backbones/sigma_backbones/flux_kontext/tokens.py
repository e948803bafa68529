"""Latents <-> tokens: 2 x 2 latents of 16 channels make one token of 64 numbers, as FLUX.1 packs them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sigma_backbones.token_grid import PATCH


def pack(latents: Tensor) -> Tensor:
    """(b, c, h, w) with even h and w -> (b, h/2 * w/2, 4 c); channel, row, column inside a token."""
    batch, channels, height, width = latents.shape
    cells = latents.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, (height // PATCH) * (width // PATCH), channels * PATCH**2)


def unpack(values: Tensor, height: int, width: int) -> Tensor:
    """(b, h/2 * w/2, 4 c) -> (b, c, h, w); ``height`` and ``width`` in latents."""
    batch, _, size = values.shape
    cells = values.reshape(batch, height // PATCH, width // PATCH, size // PATCH**2, PATCH, PATCH)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, size // PATCH**2, height, width)


def normalise(latents: Tensor, vae: Any) -> Tensor:
    """The VAE's latents -> what the transformer works on: ``(z - shift) * scale``."""
    return (latents - shift_of(vae)) * vae.config.scaling_factor


def denormalise(latents: Tensor, vae: Any) -> Tensor:
    """The reverse of ``normalise``."""
    return latents / vae.config.scaling_factor + shift_of(vae)


def shift_of(vae: Any) -> float:
    """The shift in the VAE's config, which diffusers leaves None for some."""
    return float(vae.config.shift_factor or 0.0)


def encode_mode(vae: Any, images: Tensor) -> Tensor:
    """Images (b, 3, h, w) in [-1, 1] -> raw latents, never sampled: the distribution's mode, or what there is."""
    encoded = vae.encode(images)
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()


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
