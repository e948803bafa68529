"""What a run will cost, by closed formulas over the checkpoint's configs; no torch, no weights read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_backbones.flux2_klein.config import FULL_SCALE, Flux2KleinConfig
from sigma_backbones.flux2_klein.kept_memory import kept_numbers
from sigma_backbones.flux2_klein.parameter_counts import (
    adapter_parameters,
    text_encoder_parameters,
    transformer_parameters,
    vae_parameters,
    width_of,
)
from sigma_backbones.flux_kontext.memory_estimate import vae_activations
from sigma_backbones.planned_blocks import planned_blocks
from sigma_backbones.token_grid import token_counts

TEXT_LENGTH = 512
"""Tokens that the pipeline pads prompts to."""
FULL_SCALE_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "transformer": {
        "in_channels": 128,
        "num_layers": 5,
        "num_single_layers": 20,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 7680,
        "guidance_embeds": False,
    },
    "vae": {"block_out_channels": (128, 256, 512, 512), "latent_channels": 32},
    "text_encoder": {
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "tokenizer": {"model_max_length": 131072},
}
"""FLUX.2 klein base 4B's configs, as far as its numbers depend on them; Qwen3-4B reads the prompts."""
CONFIG_FILES = {"tokenizer": "tokenizer_config.json"}
"""Where a part's config has another name than ``config.json``."""
LICENCES = {
    FULL_SCALE: "Apache-2.0",
    "black-forest-labs/FLUX.2-klein-4B": "Apache-2.0 (step-distilled: for sampling, not for training)",
}
"""By weights; other weights bring their own."""
OTHER_LICENCE = "that of these weights; FLUX.2 klein 4B: Apache-2.0, klein 9B: non-commercial"
BYTES_PER_NUMBER = {"auto": 2, "float32": 4, "bfloat16": 2, "float16": 2}
PRODIGY_BYTES = 4 * (1 + 1 + 4)
"""Per adapter parameter in training: weight, gradient, and Prodigy's two moments, s and the start, float32 each."""
RUNNING_KEPT = 22
"""Numbers of the transformer's width per token that a block holds at once while it runs."""


def explain(config: Flux2KleinConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts, parameters and a memory estimate of one training step or one generation.

    Args:
        config: the backbone's options.
        facts: ``size_hw`` pixels, ``identity_size`` (side in pixels or height and width), ``subjects``, ``rank``,
            ``batch_size``, ``task`` (``train`` or ``generate``), and optionally ``text_length`` and ``targets`` (the
            layers that the adapter changes; None is this base's list).

    Returns:
        ``tokens``: per role and total; ``parameters``: transformer, vae, text_encoders, adapter; ``memory_bytes``:
        weights, adapter_and_optimizer, activations, vae (what its encoding or decoding needs at once) and peak;
        ``licence``.
    """
    shapes = {part: _part_config(config.weights, part) for part in FULL_SCALE_CONFIGS}
    tokens = token_counts(facts, min(int(shapes["tokenizer"]["model_max_length"]), TEXT_LENGTH))
    parameters = {
        "transformer": transformer_parameters(shapes["transformer"]),
        "vae": vae_parameters(shapes["vae"]),
        "text_encoders": text_encoder_parameters(shapes["text_encoder"]),
        "adapter": adapter_parameters(shapes["transformer"], int(facts.get("rank") or 0), facts.get("targets")),
    }
    return {
        "tokens": tokens,
        "parameters": parameters,
        "memory_bytes": memory_estimate(config, facts, shapes["transformer"], tokens, parameters),
        "licence": LICENCES.get(config.weights, OTHER_LICENCE),
    }


def memory_estimate(
    config: Flux2KleinConfig,
    facts: Mapping[str, Any],
    shape: Mapping[str, Any],
    tokens: Mapping[str, int],
    parameters: Mapping[str, int],
) -> dict[str, int]:
    """Bytes of one device; activations are an estimate with memory-efficient attention.

    True classifier-free guidance runs its two passes one after the other: twice the time, the same memory.
    """
    size = BYTES_PER_NUMBER[config.dtype]
    double, single = int(shape["num_layers"]), int(shape["num_single_layers"])
    trains = facts.get("task") == "train"
    each = int(facts.get("batch_size", 1)) * tokens["total"] * width_of(shape) * size
    twice = double + single if config.gradient_checkpointing else 0
    if config.activation_gb is not None:
        twice = planned_blocks(config.activation_gb * 1e9 / each, double, single, size, kept_numbers)
    kept = kept_numbers(twice, double, single, size) if trains else RUNNING_KEPT
    estimate = {
        "weights": size * sum(parameters[name] for name in ("transformer", "vae", "text_encoders")),
        "adapter_and_optimizer": parameters["adapter"] * (PRODIGY_BYTES if trains else 4),
        "activations": round(each * kept),
        "vae": vae_activations(facts, size, tiled=False),  # the layers and widths of FLUX.1's
    }
    busy = max(estimate["activations"], estimate["vae"])
    return {**estimate, "peak": estimate["weights"] + estimate["adapter_and_optimizer"] + busy}


def _part_config(weights: str, part: str) -> dict[str, Any]:
    """Of the folder; klein base 4B's where nothing is here to read."""
    path = Path(weights).expanduser() / part / CONFIG_FILES.get(part, "config.json")
    read = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {**FULL_SCALE_CONFIGS[part], **read}
