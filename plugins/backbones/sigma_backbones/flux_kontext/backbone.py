"""FLUX.1 Kontext behind the ``Backbone`` protocol; every layer and schedule is diffusers' own."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigma_backbones.checkpointing import BlockCheckpointing, checkpoint_blocks
from sigma_backbones.devices import choose_device, choose_dtype
from sigma_backbones.flux_kontext import tokens
from sigma_backbones.flux_kontext.attention import AttentionWatch, Report, watched
from sigma_backbones.flux_kontext.config import FluxKontextConfig, memory_options
from sigma_backbones.flux_kontext.depth_control import load_control, residuals, split_structure
from sigma_backbones.flux_kontext.kernels import use_kernels
from sigma_backbones.flux_kontext.loading import FluxKontextParts, load_parts
from sigma_backbones.flux_kontext.memory_estimate import kept_numbers
from sigma_backbones.flux_kontext.placement import Placement
from sigma_backbones.flux_kontext.position_ids import image_ids, joined_ids
from sigma_backbones.flux_kontext.quantization import quantization_options, require_quantization
from sigma_backbones.flux_kontext.schedule import shift_for
from sigma_backbones.flux_kontext.step_inputs import StepInputs, plan_steps
from sigma_backbones.flux_kontext.targets import LORA
from sigma_backbones.flux_kontext.text import cut_prompts, encode_prompts, text_length
from sigma_backbones.loaded_adapters import LoadedAdapters
from sigma_backbones.prompt_cuts import PromptCuts
from sigma_backbones.shifted_timesteps import shifted_timesteps
from sigma_backbones.step_caches import StepCaches
from sigma_backbones.token_grid import PATCH, VAE_FACTOR, latent_size
from sigma_framework import PluginError, TextTokens, Tokens, WeightsError


def build(config: FluxKontextConfig) -> FluxKontextBackbone:
    """Loads the weights that ``config`` names.

    Raises:
        WeightsError: they are missing, gated, damaged or of another architecture, or cannot be quantized here.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    require_quantization(config, device)
    quantized = quantization_options(config, dtype)
    parts = load_parts(config.weights, config.revision, dtype, config.transformer, quantized)
    control = None if config.depth_control is None else load_control(config.depth_control, dtype)
    backbone = FluxKontextBackbone(parts, config, control)
    return backbone.to(device)


_log = logging.getLogger(__name__)


class FluxKontextBackbone:
    """Token sequence ``[P, X, I^S, I^C]``; the text goes in separately, as in diffusers (section 3.2)."""

    def __init__(self, parts: FluxKontextParts, config: FluxKontextConfig, control: Any = None) -> None:
        self.parts = parts
        self.config = config
        self._watch: AttentionWatch | None = None
        self._fuses = config.fuse_adapters
        self._control = control
        self._placement = Placement(parts, config, next(iter(parts.transformer.parameters())).device)
        self.adapters = LoadedAdapters(LORA, parts.transformer)
        self._cuts = PromptCuts()
        self._plan = plan_steps(parts.transformer)
        self._caches = StepCaches(parts.transformer)
        self.checkpointing: BlockCheckpointing | None = None
        if config.gradient_checkpointing:
            self.checkpointing = checkpoint_blocks(parts.transformer, config.activation_gb, kept_numbers)
        self._scheduler = copy.deepcopy(parts.scheduler)  # asked for timesteps, which it keeps
        use_kernels(parts.transformer, config)

    @property
    def transformer(self) -> Any:
        """diffusers' ``FluxTransformer2DModel``."""
        return self.parts.transformer

    @property
    def device(self) -> torch.device:
        """Where it computes; models that wait may be elsewhere."""
        if memory_options(self.config).offload != "none":
            return self._placement.device
        return next(iter(self.transformer.parameters())).device

    @property
    def guidance_embedded(self) -> bool:
        """True for FLUX.1 Kontext [dev], false for pocket."""
        return bool(self.transformer.config.guidance_embeds)

    def to(self, device: torch.device | str) -> FluxKontextBackbone:
        """Moves all models, or those that are used when they are used; returns itself."""
        self._placement.settle(torch.device(device))
        if self._control is not None:
            self._control.to(device)
        return self

    def rest_text_encoders(self) -> None:
        """To the CPU until a prompt is encoded again."""
        self._placement.rest_text()

    def modules(self) -> Sequence[nn.Module]:
        """The transformer, the VAE and both text encoders."""
        return self.parts.models()

    def pipeline(self) -> Any:
        """The same parts as diffusers' ``FluxKontextPipeline``."""
        from diffusers import FluxKontextPipeline

        return FluxKontextPipeline(
            scheduler=copy.deepcopy(self.parts.scheduler),
            vae=self.parts.vae,
            text_encoder=self.parts.text_encoder,
            tokenizer=self.parts.tokenizer,
            text_encoder_2=self.parts.text_encoder_2,
            tokenizer_2=self.parts.tokenizer_2,
            transformer=self.transformer,
        )

    def noise(self, size_hw: tuple[int, int], generators: Sequence[torch.Generator]) -> Tokens:
        """(b, l, 64) float32, drawn in the pipeline's unpacked latent shape, image k from generator k alone.

        A loop begins here: a step cache of the transformer forgets the last one.
        """
        height, width = latent_size(size_hw)
        self._caches.begin()
        shape = (1, int(self.parts.vae.config.latent_channels), height, width)
        drawn = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
        values = tokens.pack(torch.cat([latents.to(self.device) for latents in drawn]))
        return Tokens(values=values, ids=self._ids("target", height, width))

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        """Padded to the checkpoint's own text length; the first prompts that are cut are logged."""
        self._placement.take_turn("text")
        self._cuts.report(lambda: cut_prompts(self.parts, prompts), text_length(self.parts))
        return encode_prompts(self.parts, prompts, self.device)

    @torch.no_grad()
    def encode_image(self, images: Tensor, role: str) -> Tokens:
        """Mode of the VAE's distribution, ``(z - shift) * scale``, packed, float32 (section 4.1).

        Raises:
            ValueError: height or width is not a multiple of 16, or blocks are asked for and the stack is no stack.
        """
        height, width = latent_size((images.shape[-2], images.shape[-1]))
        self._placement.take_turn("image")
        images = images.to(self.device, self.parts.vae.dtype)
        if role == "spatial" and self._control is not None:
            values = torch.cat([self._encode(part, role) for part in split_structure(images)], dim=-1)
        else:
            values = self._encode(images, role)
        return Tokens(values=values, ids=self._ids(role, height, width))

    def _encode(self, images: Tensor, role: str) -> Tensor:
        """(b, l, 64) float32."""
        vae = self.parts.vae
        if role == "identity" and self.config.identity_encoding == "blocks":
            latents = tokens.encode_blocks(vae, images)
        else:
            latents = tokens.encode_mode(vae, images)
        return tokens.pack(tokens.normalise(latents.float(), vae))

    def velocity(
        self, x: Tokens, t: Tensor, text: TextTokens, conditions: Sequence[Tokens], guidance: float | None = None
    ) -> Tensor:
        """One call of the transformer on ``[X, conditions]`` for X's tokens; float32.

        What depends on the text and the conditions alone is built at the first step of a loop and used in all.

        Raises:
            ValueError: this base reads a guidance value and none was given.
        """
        self._placement.take_turn("image")
        if self._fuses and not torch.is_grad_enabled():
            self.adapters.fuse()
        dtype, device = self.transformer.dtype, self.device
        if self._watch is not None:
            self._watch.resting = self.adapters.share != 1.0
            self._watch.lengths = (text.values.shape[1], x.length, *(one.length for one in _in_sequence(conditions)))
        inputs = self._plan.inputs(
            text, x, conditions, (dtype, device), lambda: self._step_inputs(text, x, conditions, dtype, device)
        )
        sequence = target = x.values.to(device, dtype)
        if inputs.conditions is not None:
            sequence = torch.cat([target, inputs.conditions], dim=1)
        if self.checkpointing is not None:
            self.checkpointing.plan(len(sequence), text.values.shape[1] + sequence.shape[1], dtype.itemsize)
        guided, added = self._guidance(guidance, x.values.shape[0]), {}
        if inputs.control is not None:
            scale = self.config.depth_control_scale
            added = residuals(self._control, target, x.ids, t.to(device), guided, inputs, scale)
        names = (text.ids, x.ids, *(one.ids for one in conditions))
        with self._plan.step(self.transformer, names, x.length), self._caches.of(text.values, self.adapters.share):
            (velocity,) = self.transformer(
                hidden_states=sequence,
                timestep=t.to(device),
                guidance=guided,
                pooled_projections=inputs.pooled,
                encoder_hidden_states=inputs.text,
                txt_ids=inputs.text_ids,
                img_ids=inputs.ids,
                return_dict=False,
                **added,
            )
        return velocity[:, : x.length].float()

    @contextmanager
    def watch_attention(
        self, rows: Tensor, report: Report, *, layers: Collection[int] | None = None, gradients: bool = False
    ) -> Iterator[None]:
        """Probabilities of all layers or some, double-stream blocks first; the images stay the same.

        Passes with weaker adapters report nothing.

        Raises:
            PluginError: gradients of a pass whose blocks are computed twice.
        """
        if gradients and self.checkpointing is not None:
            raise PluginError(
                "backbone.gradient_checkpointing: blocks that are computed twice cannot give gradients of what they "
                "look at; switch it off, or train.attention_loss_weight to 0"
            )
        self._watch = AttentionWatch(rows=rows, report=report, layers=layers, gradients=gradients)
        try:
            with watched(self.transformer, self._watch):
                yield
        finally:
            self._watch = None

    def _step_inputs(
        self, text: TextTokens, x: Tokens, conditions: Sequence[Tokens], dtype: torch.dtype, device: torch.device
    ) -> StepInputs:
        width = self.transformer.config.in_channels  # behind it, I^C may carry the depth for an external network
        shown = _in_sequence(conditions)
        joined = torch.cat([one.values[..., :width] for one in shown], dim=1) if shown else None
        carried = [one.values[..., width:] for one in conditions if one.values.shape[-1] > width]
        return StepInputs(
            text=text.values.to(device, dtype),
            pooled=None if text.pooled is None else text.pooled.to(device, dtype),
            text_ids=text.ids,
            ids=joined_ids(x, shown),
            conditions=None if joined is None else joined.to(device, dtype),
            control=carried[0].to(device, dtype) if carried else None,
        )

    @torch.no_grad()
    def decode(self, values: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Images (b, 3, h, w) float32, clamped to [-1, 1]."""
        self._placement.take_turn("image")
        latents = tokens.unpack(values.to(self.device).float(), *latent_size(size_hw))
        with self._placement.decoding() as vae:
            images = vae.decode(tokens.denormalise(latents, vae).to(vae.dtype), return_dict=False)[0]
        return images.float().clamp(-1, 1)

    def region_tokens(self, region: Tensor) -> Tensor:
        """(h, w) in [0, 1] -> (1, l, 64): 1 for each latent that has a pixel of the region in its 8 x 8 block."""
        latent_size((region.shape[-2], region.shape[-1]))
        touched = nn.functional.max_pool2d((region > 0).float()[None, None], VAE_FACTOR).to(self.device)
        return tokens.pack(touched.expand(1, int(self.parts.vae.config.latent_channels), -1, -1))

    def timesteps(self, count: int, target_length: int) -> Tensor:
        """(count + 1,) float32: linspace(1, 1 / count), shifted for the target's tokens alone, then 0 (section 3)."""
        mu = shift_for(self._scheduler.config, target_length)
        return shifted_timesteps(self._scheduler, count, mu).to(self.device)

    def add_adapter(self, name: str, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
        """A fresh LoRA, float32, effect zero; ``targets`` are module names with ``*`` for one part.

        Raises:
            WeightsError: blocks that come and go cannot be trained.
        """
        if memory_options(self.config).offload == "group":
            raise WeightsError(
                "backbone.memory: the transformer comes block by block, which cannot be trained; write "
                "backbone.memory=full (or balanced), and backbone.gradient_checkpointing=true to save memory"
            )
        self.adapters.add(name, rank, alpha, targets, seed)

    def save_adapter(self, folder: Path, name: str, metadata: Mapping[str, str]) -> Path:
        """``pytorch_lora_weights.safetensors``, as diffusers writes it, with ``metadata`` in its header."""
        dtype = torch.bfloat16 if self.config.adapter_dtype == "bfloat16" else torch.float32
        return self.adapters.write(Path(folder), name, metadata, dtype)

    def load_adapter(self, path: Path, name: str, weight: float, trainable: bool = False) -> Mapping[str, str]:
        """A ``.safetensors`` file, or a folder that holds one; several add up.

        Returns the text in the file's header.
        """
        self._placement.refuse_changes()
        return self.adapters.load(Path(path), name, weight, trainable)

    def swap_adapter(self, path: Path, name: str, weight: float | None = None) -> Mapping[str, str]:
        """Another file in the place of the adapter ``name``, with the same weight unless one is given."""
        self._placement.refuse_changes()
        return self.adapters.swap(Path(path), name, weight)

    def dim_adapters(self, share: float) -> AbstractContextManager[None]:
        """All adapters at ``share`` of their weights while the context is open; from then on they are not fused."""
        if self._fuses and self.adapters.weights:
            _log.warning(
                "backbone.fuse_adapters: adapters stay beside the base's weights, because guidance away from weaker "
                "adapters changes their strength"
            )
            self._fuses = False
        return self.adapters.dimmed(share)

    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        """LoRA pairs of the trainable adapters, float32, by the transformer's parameter names."""
        return self.adapters.trainable_parameters()

    def _guidance(self, guidance: float | None, batch: int) -> Tensor | None:
        if not self.guidance_embedded:
            return None
        if guidance is None:
            raise ValueError(
                "this base reads a guidance value; give one (FLUX.1 Kontext: 2.5 or 3.5 to sample, 1 to train)"
            )
        return torch.full((batch,), float(guidance), device=self.device)

    def _ids(self, role: str, height: int, width: int) -> Tensor:
        return image_ids(role, height // PATCH, width // PATCH, self.device)


def _in_sequence(conditions: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """Tokens without position ids are not in the sequence: they are read for the depth that they carry alone."""
    return tuple(one for one in conditions if len(one.ids))
