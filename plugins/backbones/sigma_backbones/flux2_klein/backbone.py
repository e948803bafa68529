"""FLUX.2 klein behind the ``Backbone`` protocol; every layer and schedule is diffusers' own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigma_backbones.checkpointing import BlockCheckpointing, checkpoint_blocks
from sigma_backbones.devices import choose_device, choose_dtype
from sigma_backbones.flux2_klein import tokens
from sigma_backbones.flux2_klein.config import Flux2KleinConfig
from sigma_backbones.flux2_klein.kept_memory import kept_numbers
from sigma_backbones.flux2_klein.loading import Flux2KleinParts, load_parts
from sigma_backbones.flux2_klein.position_ids import image_ids
from sigma_backbones.flux2_klein.targets import LORA
from sigma_backbones.flux2_klein.text import cut_prompts, encode_prompts, text_length
from sigma_backbones.loaded_adapters import LoadedAdapters
from sigma_backbones.prompt_cuts import PromptCuts
from sigma_backbones.resting_text import RestingText
from sigma_backbones.shifted_timesteps import shifted_timesteps
from sigma_backbones.step_caches import StepCaches
from sigma_backbones.token_grid import PATCH, VAE_FACTOR, latent_size
from sigma_framework import TextTokens, Tokens


def build(config: Flux2KleinConfig) -> Flux2KleinBackbone:
    """Loads the weights that ``config`` names.

    Raises:
        WeightsError: they are missing, gated, damaged or of another architecture.
    """
    device = choose_device(config.device)
    parts = load_parts(config.weights, config.revision, choose_dtype(config.dtype, device))
    return Flux2KleinBackbone(parts, config).to(device)


class Flux2KleinBackbone:
    """Token sequence ``[P, X, I^S, I^C]``; the text goes in separately, as in diffusers (section 3.2)."""

    def __init__(self, parts: Flux2KleinParts, config: Flux2KleinConfig) -> None:
        self.parts = parts
        self.config = config
        self.adapters = LoadedAdapters(LORA, parts.transformer)
        self._caches = StepCaches(parts.transformer)
        self._cuts = PromptCuts()
        self._text = RestingText([parts.text_encoder])
        self._scheduler = copy.deepcopy(parts.scheduler)  # asked for timesteps, which it keeps
        self.checkpointing: BlockCheckpointing | None = None
        if config.gradient_checkpointing:
            self.checkpointing = checkpoint_blocks(parts.transformer, config.activation_gb, kept_numbers)

    @property
    def transformer(self) -> Any:
        """diffusers' ``Flux2Transformer2DModel``."""
        return self.parts.transformer

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(iter(self.transformer.parameters())).device

    @property
    def guidance_embedded(self) -> bool:
        """False: klein follows a prompt by true classifier-free guidance (``sampler.true_cfg``)."""
        return False

    def to(self, device: torch.device | str) -> Flux2KleinBackbone:
        """Moves all models; returns itself."""
        for model in self.parts.models():
            model.to(device)
        self._text.moved()
        return self

    def rest_text_encoders(self) -> None:
        """To the CPU until a prompt is encoded again."""
        self._text.rest(self.device)

    def modules(self) -> Sequence[nn.Module]:
        """The transformer, the VAE and the text encoder."""
        return self.parts.models()

    def pipeline(self) -> Any:
        """The same parts as diffusers' ``Flux2KleinPipeline``."""
        from diffusers import Flux2KleinPipeline

        return Flux2KleinPipeline(
            scheduler=copy.deepcopy(self.parts.scheduler),
            vae=self.parts.vae,
            text_encoder=self.parts.text_encoder,
            tokenizer=self.parts.tokenizer,
            transformer=self.transformer,
            is_distilled=self.parts.distilled,
        )

    def noise(self, size_hw: tuple[int, int], generators: Sequence[torch.Generator]) -> Tokens:
        """(b, l, 128) float32, drawn as (128, rows, columns) of tokens like the pipeline, image k from generator k.

        A loop begins here: a step cache of the transformer forgets the last one.
        """
        height, width = latent_size(size_hw)
        rows, columns = height // PATCH, width // PATCH
        self._caches.begin()
        shape = (1, self._latent_channels * PATCH**2, rows, columns)
        drawn = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
        values = torch.cat([packed.to(self.device) for packed in drawn]).flatten(2).transpose(1, 2)
        return Tokens(values=values.contiguous(), ids=self._ids("target", height, width))

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        """Padded to the checkpoint's own text length; the first prompts that are cut are logged."""
        self._text.wake(self.device)
        self._cuts.report(lambda: cut_prompts(self.parts, prompts), text_length(self.parts))
        return encode_prompts(self.parts, prompts, self.device)

    @torch.no_grad()
    def encode_image(self, images: Tensor, role: str) -> Tokens:
        """Mode of the VAE's distribution, packed, normalised by the VAE's BatchNorm statistics, float32 (section 4.1).

        Raises:
            ValueError: height or width is not a multiple of 16, or blocks are asked for and the stack is no stack.
        """
        height, width = latent_size((images.shape[-2], images.shape[-1]))
        vae = self.parts.vae
        images = images.to(self.device, vae.dtype)
        alone = role == "identity" and self.config.identity_encoding == "blocks"
        latents = tokens.encode_blocks(vae, images) if alone else tokens.encode_mode(vae, images)
        values = tokens.normalise(tokens.pack(latents.float()), vae)
        return Tokens(values=values, ids=self._ids(role, height, width))

    def velocity(
        self, x: Tokens, t: Tensor, text: TextTokens, conditions: Sequence[Tokens], guidance: float | None = None
    ) -> Tensor:
        """One call of the transformer on ``[X, conditions]``, cut to X's tokens; float32. ``guidance`` is not read."""
        dtype, device = self.transformer.dtype, self.device
        sequence = torch.cat([x.values, *(tokens.values for tokens in conditions)], dim=1)
        if self.checkpointing is not None:
            self.checkpointing.plan(len(sequence), text.values.shape[1] + sequence.shape[1], dtype.itemsize)
        with self._caches.of(text.values, self.adapters.share):
            (velocity,) = self.transformer(
                hidden_states=sequence.to(device, dtype),
                timestep=t.to(device),
                guidance=None,
                encoder_hidden_states=text.values.to(device, dtype),
                txt_ids=text.ids,
                img_ids=torch.cat([x.ids, *(tokens.ids for tokens in conditions)]),
                return_dict=False,
            )
        return velocity[:, : x.length].float()

    @torch.no_grad()
    def decode(self, values: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Images (b, 3, h, w) float32, clamped to [-1, 1]."""
        vae = self.parts.vae
        packed = tokens.denormalise(values.to(self.device).float(), vae)
        latents = tokens.unpack(packed, *latent_size(size_hw))
        images = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return images.float().clamp(-1, 1)

    def region_tokens(self, region: Tensor) -> Tensor:
        """(h, w) in [0, 1] -> (1, l, 128): 1 for each latent that has a pixel of the region in its 8 x 8 block."""
        latent_size((region.shape[-2], region.shape[-1]))
        touched = nn.functional.max_pool2d((region > 0).float()[None, None], VAE_FACTOR).to(self.device)
        return tokens.pack(touched.expand(1, self._latent_channels, -1, -1))

    def timesteps(self, count: int, target_length: int) -> Tensor:
        """(count + 1,) float32: linspace(1, 1 / count), shifted by FLUX.2's empirical mu, then 0.

        mu depends on the number of the target's tokens and on that of the steps (section 3 has the tokens alone).
        """
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        mu = compute_empirical_mu(image_seq_len=target_length, num_steps=count)
        return shifted_timesteps(self._scheduler, count, mu).to(self.device)

    def add_adapter(self, name: str, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
        """A fresh LoRA, float32, effect zero; ``targets`` are module names with ``*`` for one part."""
        self.adapters.add(name, rank, alpha, targets, seed)

    def save_adapter(self, folder: Path, name: str, metadata: Mapping[str, str]) -> Path:
        """``pytorch_lora_weights.safetensors``, as diffusers writes it; its header holds ``metadata`` and our ids."""
        dtype = torch.bfloat16 if self.config.adapter_dtype == "bfloat16" else torch.float32
        return self.adapters.write(Path(folder), name, metadata, dtype)

    def load_adapter(self, path: Path, name: str, weight: float, trainable: bool = False) -> Mapping[str, str]:
        """A ``.safetensors`` file or a folder that holds one; several add up.

        Returns the text in the file's header.
        """
        return self.adapters.load(Path(path), name, weight, trainable)

    def swap_adapter(self, path: Path, name: str, weight: float | None = None) -> Mapping[str, str]:
        """Another file in the place of the adapter ``name``, with the same weight unless one is given."""
        return self.adapters.swap(Path(path), name, weight)

    def dim_adapters(self, share: float) -> AbstractContextManager[None]:
        """All adapters at ``share`` of their weights while the context is open."""
        return self.adapters.dimmed(share)

    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        """LoRA pairs of the trainable adapters, float32, by the transformer's parameter names."""
        return self.adapters.trainable_parameters()

    @property
    def _latent_channels(self) -> int:
        return int(self.parts.vae.config.latent_channels)

    def _ids(self, role: str, height: int, width: int) -> Tensor:
        return image_ids(role, height // PATCH, width // PATCH, self.device)
