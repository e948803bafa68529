"""Parameters of FLUX.1's transformer and of an adapter on it, by closed formulas; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigma_backbones.flux_kontext.targets import DOUBLE_TARGETS, SINGLE_TARGETS

TIME_FEATURES = 256
"""Width of the sinusoidal features of t and guidance."""
FULL_SCALE_TRANSFORMER = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
"""``transformer/config.json`` of FLUX.1 Kontext [dev]."""


def transformer_parameters(shape: Mapping[str, Any]) -> int:
    """Parameters of diffusers' ``FluxTransformer2DModel`` with this config."""
    head = int(shape["attention_head_dim"])
    width = head * int(shape["num_attention_heads"])
    tokens = int(shape["in_channels"])
    time_embeddings = 2 if shape.get("guidance_embeds") else 1
    outer = _linear(tokens, width) + _linear(int(shape["joint_attention_dim"]), width)
    outer += time_embeddings * (_linear(TIME_FEATURES, width) + _linear(width, width))
    outer += _linear(int(shape["pooled_projection_dim"]), width) + _linear(width, width)
    outer += _linear(width, 2 * width) + _linear(width, int(shape.get("out_channels") or tokens))
    double, single = block_parameters(shape)
    return outer + int(shape["num_layers"]) * double + int(shape["num_single_layers"]) * single


def block_parameters(shape: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters of one block with two streams and of one with a single stream."""
    head = int(shape["attention_head_dim"])
    width = head * int(shape["num_attention_heads"])
    stream = _linear(width, 6 * width) + 4 * _linear(width, width) + 2 * head
    stream += _linear(width, 4 * width) + _linear(4 * width, width)
    single = _linear(width, 3 * width) + 3 * _linear(width, width) + 2 * head
    single += _linear(width, 4 * width) + _linear(5 * width, width)
    return 2 * stream, single


def adapter_parameters(shape: Mapping[str, Any], rank: int) -> int:
    """Parameters of a LoRA of this rank on the default targets: rank x (inputs + outputs) of each layer."""
    width = int(shape["attention_head_dim"]) * int(shape["num_attention_heads"])
    sides = {
        "norm1.linear": 7, "norm.linear": 4, "attn.to_q": 2, "attn.to_k": 2, "attn.to_v": 2, "attn.to_out.0": 2,
        "ff.net.2": 5, "proj_mlp": 5, "proj_out": 6,
    }  # fmt: skip
    double = sum(sides[name] for name in DOUBLE_TARGETS) * int(shape["num_layers"])
    single = sum(sides[name] for name in SINGLE_TARGETS) * int(shape["num_single_layers"])
    return rank * ((double + single) * width + int(shape["in_channels"]) + width)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
