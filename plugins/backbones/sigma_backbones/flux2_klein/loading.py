"""The parts of a FLUX.2 klein checkpoint in diffusers' folder format: a folder or a hub id."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from sigma_backbones.checkpoint_parts import CheckpointParts
from sigma_backbones.checkpoint_source import find_checkpoint, quiet_libraries
from sigma_backbones.flux2_klein.config import FULL_SCALE
from sigma_framework import Problem, WeightsError

logger = logging.getLogger(__name__)

FOLDERS = ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")
"""What a FLUX.2 klein folder of diffusers consists of, besides ``model_index.json``."""
PIPELINE = "Flux2KleinPipeline"
"""The class that its index names."""
TEXT_LAYERS = 27
"""Layers that the text encoder must have: the deepest one that is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Flux2KleinParts:
    """The models and the tokenizer, as diffusers and transformers make them."""

    scheduler: Any
    """``FlowMatchEulerDiscreteScheduler``."""
    vae: Any
    """``AutoencoderKLFlux2``."""
    text_encoder: Any
    """``Qwen3ForCausalLM``."""
    tokenizer: Any
    """``Qwen2TokenizerFast``; min(512, its ``model_max_length``) is the text length."""
    transformer: Any
    """``Flux2Transformer2DModel``."""
    distilled: bool
    """Whether the index calls the weights step-distilled: made for a few steps without guidance, not for training."""

    def models(self) -> tuple[torch.nn.Module, ...]:
        """Everything with weights."""
        return self.transformer, self.vae, self.text_encoder


def load_parts(weights: str, revision: str | None, dtype: torch.dtype) -> Flux2KleinParts:
    """Loads all parts, frozen and in evaluation mode.

    Raises:
        WeightsError: not found, not complete, damaged, of another architecture, gated or offline; says what to do.
    """
    source, where, index = find_checkpoint(weights, revision, FOLDERS, [PIPELINE], f"a hub id such as {FULL_SCALE}")
    checkpoint = CheckpointParts(weights=weights, source=source, where=where, revision=revision)
    with quiet_libraries():
        parts = _read_parts(checkpoint, dtype, bool(index.get("is_distilled")))
    _check_parts(weights, parts)
    for model in parts.models():
        model.requires_grad_(False).eval()
    if parts.distilled:
        logger.warning(
            "%s is step-distilled: sample it with 4 steps and true_cfg 1.0, train on the base model", weights
        )
    return parts


def _read_parts(checkpoint: CheckpointParts, dtype: torch.dtype, distilled: bool) -> Flux2KleinParts:
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
    from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

    return Flux2KleinParts(
        scheduler=checkpoint.load(FlowMatchEulerDiscreteScheduler, "scheduler"),
        vae=checkpoint.model(AutoencoderKLFlux2, "vae", torch_dtype=dtype),
        text_encoder=checkpoint.text_encoder(Qwen3ForCausalLM, "text_encoder", dtype),
        tokenizer=checkpoint.tokenizer(Qwen2TokenizerFast, "tokenizer"),
        transformer=checkpoint.model(Flux2Transformer2DModel, "transformer", whole=True, torch_dtype=dtype),
        distilled=distilled,
    )


def _check_parts(weights: str, parts: Flux2KleinParts) -> None:
    """The parts fit one another and FLUX.2's geometry."""
    transformer, vae, encoder = parts.transformer.config, parts.vae.config, parts.text_encoder.config
    wanted = {
        "vae factor": (2 ** (len(vae.block_out_channels) - 1), 8),
        "vae patch_size": (tuple(vae.patch_size), (2, 2)),
        "transformer in_channels": (transformer.in_channels, 4 * int(vae.latent_channels)),
        "transformer joint_attention_dim": (transformer.joint_attention_dim, 3 * int(encoder.hidden_size)),
    }
    problems = [
        Problem(name, f"found {found}, expected {expected}", "the parts belong to different models")
        for name, (found, expected) in wanted.items()
        if found != expected
    ]
    if encoder.num_hidden_layers < TEXT_LAYERS:
        found = f"found {encoder.num_hidden_layers} layers, expected at least {TEXT_LAYERS}"
        problems.append(Problem("text_encoder", found, "layers 9, 18 and 27 are read"))
    if not parts.tokenizer.chat_template:
        problems.append(Problem("tokenizer", "found no chat template", "download the whole tokenizer again"))
    if problems:
        raise WeightsError(f"backbone.weights: {weights} cannot be used", problems)
