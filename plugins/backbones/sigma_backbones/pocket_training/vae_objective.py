"""Objective ``pocket_vae``: the VAE must keep scenes, identities and the absolute levels of control images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from sigma_backbones.arrays import RgbImage
from sigma_backbones.pocket_training.architecture import build_vae, portable_copy
from sigma_backbones.pocket_training.composed_vae import can_compose, decode_composed, encode_composed
from sigma_backbones.pocket_training.options import KINDS, PocketVaeOptions
from sigma_backbones.pocket_training.training_pictures import draw_picture
from sigma_framework import Example

STATISTICS_DECAY = 0.99
"""How slowly the record of the latents' mean and variance follows the batches."""


class LatentStatistics(nn.Module):
    """Running mean and mean square of the latents, kept as buffers so that they are saved and restored."""

    mean: Tensor
    square: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("square", torch.ones(()))

    @torch.no_grad()
    def record(self, latents: Tensor) -> None:
        """Takes in one batch."""
        self.mean.lerp_(latents.mean(), 1 - STATISTICS_DECAY)
        self.square.lerp_(latents.square().mean(), 1 - STATISTICS_DECAY)

    def measured(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        mean = float(self.mean)
        return mean, max(float(self.square) - mean**2, 1e-12) ** 0.5


class PocketVaeObjective:
    """Reconstruction of pictures drawn from examples; see ``options.PocketVaeOptions``."""

    def __init__(self, vae: AutoencoderTiny, options: PocketVaeOptions) -> None:
        self.vae = vae.float().train().to(memory_format=torch.channels_last)
        self.options = options
        self.statistics = LatentStatistics()
        self._composed = options.compose_linear and can_compose(vae)

    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        """All weights of the VAE."""
        return dict(self.vae.named_parameters())

    def modules(self) -> Sequence[nn.Module]:
        """The VAE and the record of its latents' mean and variance."""
        return (self.vae, self.statistics)

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> Tensor:
        """(b,) loss: one picture per example, its kind and content drawn from the example's generator."""
        pictures = [self._picture(e, g) for e, g in zip(examples, generators, strict=True)]
        return self.picture_loss(pictures, generators)

    def picture_loss(self, pictures: Sequence[RgbImage], generators: Sequence[torch.Generator]) -> Tensor:
        """(b,) loss of given pictures, all of one size."""
        images = self._images(pictures)
        latents = encode_composed(self.vae, images) if self._composed else self.vae.encode(images).latents
        noisy = latents + self.options.latent_noise * _noise_like(latents, generators)
        decoded = decode_composed(self.vae, noisy) if self._composed else self.vae.decode(noisy).sample
        self.statistics.record(latents.detach().float())
        return self._reconstruction_loss(decoded, images) + self.options.latent_weight * _latent_loss(latents.float())

    @torch.no_grad()
    def pictures(self, examples: Sequence[Example], seed: int) -> list[list[RgbImage]]:
        """One row per example: a picture and its reconstruction, for each kind in turn."""
        rows = []
        for index, example in enumerate(examples):
            rng = np.random.default_rng((seed, index))
            size = self.options.picture_size
            drawn = [draw_picture(example, kind, size, rng) for kind in KINDS]
            rows.append([p for pair in zip(drawn, self.reconstruct(drawn), strict=True) for p in pair])
        return rows

    @torch.no_grad()
    def reconstruct(self, pictures: Sequence[RgbImage]) -> list[RgbImage]:
        """Encodes and decodes pictures exactly as diffusers does."""
        decoded = self.vae.decode(self.vae.encode(self._images(pictures)).latents).sample
        levels = ((decoded + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return list(levels.permute(0, 2, 3, 1).cpu().numpy())

    def save(self, folder: Path) -> None:
        """Writes the VAE as a diffusers folder in bfloat16; its config says the measured scale and shift."""
        mean, deviation = self.statistics.measured()
        self.vae.register_to_config(scaling_factor=round(1 / deviation, 4), shift_factor=round(mean, 4))
        portable_copy(self.vae).save_pretrained(folder)

    def _picture(self, example: Example, generator: torch.Generator) -> RgbImage:
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        kind = KINDS[int(rng.choice(len(KINDS), p=np.asarray(self.options.shares) / sum(self.options.shares)))]
        return draw_picture(example, kind, self.options.picture_size, rng)

    def _images(self, pictures: Sequence[RgbImage]) -> Tensor:
        device = next(self.vae.parameters()).device
        stacked = torch.from_numpy(np.ascontiguousarray(np.stack(pictures))).to(device)
        return (stacked.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def _reconstruction_loss(self, decoded: Tensor, images: Tensor) -> Tensor:
        error = decoded.float() - images
        loss = error.abs().mean((1, 2, 3)) + self.options.square_weight * error.square().mean((1, 2, 3))
        for side in (4, 8):
            loss = loss + self.options.mean_weight * functional.avg_pool2d(error, side).abs().mean((1, 2, 3))
        return loss


def build_objective(backbone_config: object, options: PocketVaeOptions, seed: int) -> PocketVaeObjective:
    """Factory of the objective; the backbone's own weights are not read."""
    if options.start is not None:
        return PocketVaeObjective(AutoencoderTiny.from_pretrained(options.start, torch_dtype=torch.float32), options)
    encoder, decoder = (options.encoder_width, options.encoder_blocks), (options.decoder_width, options.decoder_blocks)
    return PocketVaeObjective(build_vae(*encoder, *decoder, seed), options)


def _latent_loss(latents: Tensor) -> Tensor:
    """How far channels leave mean 0 and exceed variance 1 over the batch, the same number for each example."""
    mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
    return (mean.square() + functional.relu(variance - 1).square()).mean().expand(latents.shape[0])


def _noise_like(latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Gaussian noise, example k from generator k."""
    noise = [torch.randn(latents.shape[1:], generator=generator) for generator in generators]
    return torch.stack(noise).to(latents)
