"""Parameters of FLUX.1's transformer and of an adapter on it, by closed formulas; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sigma_backbones.flux_kontext.targets import LORA
from sigma_backbones.lora import matched_names

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


def linear_layers(shape: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of diffusers' ``FluxTransformer2DModel``'s linear layers by name; all have biases."""
    width = width_of(shape)
    layers = {"x_embedder": (int(shape["in_channels"]), width)}
    layers["context_embedder"] = (int(shape["joint_attention_dim"]), width)
    embedders = {"timestep_embedder": TIME_FEATURES, "text_embedder": int(shape["pooled_projection_dim"])}
    if shape.get("guidance_embeds"):
        embedders["guidance_embedder"] = TIME_FEATURES
    for name, inputs in embedders.items():
        layers[f"time_text_embed.{name}.linear_1"] = (inputs, width)
        layers[f"time_text_embed.{name}.linear_2"] = (width, width)
    for block in range(int(shape["num_layers"])):
        layers.update({f"transformer_blocks.{block}.{name}": sides for name, sides in _double(width).items()})
    for block in range(int(shape["num_single_layers"])):
        layers.update({f"single_transformer_blocks.{block}.{name}": sides for name, sides in _single(width).items()})
    layers["norm_out.linear"] = (width, 2 * width)
    layers["proj_out"] = (width, int(shape.get("out_channels") or shape["in_channels"]))
    return layers


def transformer_parameters(shape: Mapping[str, Any]) -> int:
    """Parameters of diffusers' ``FluxTransformer2DModel`` with this config."""
    return sum((inputs + 1) * outputs for inputs, outputs in linear_layers(shape).values()) + norm_parameters(shape)


def norm_parameters(shape: Mapping[str, Any]) -> int:
    """Parameters outside linear layers: norms of queries and keys, of both streams or of one."""
    return int(shape["attention_head_dim"]) * (4 * int(shape["num_layers"]) + 2 * int(shape["num_single_layers"]))


def adapter_parameters(shape: Mapping[str, Any], rank: int, targets: Sequence[str] | None = None) -> int:
    """Parameters of a LoRA of this rank: rank x (inputs + outputs) of each layer that the targets mean.

    Raises:
        WeightsError: a target that means no linear layer.
    """
    layers = linear_layers(shape)
    return rank * sum(sum(layers[name]) for name in matched_names(LORA, layers, targets))


def width_of(shape: Mapping[str, Any]) -> int:
    """The transformer's width."""
    return int(shape["attention_head_dim"]) * int(shape["num_attention_heads"])


def _double(width: int) -> dict[str, tuple[int, int]]:
    """Of one block with two streams; the text's layers are named last."""
    square = (width, width)
    return {
        "norm1.linear": (width, 6 * width), "norm1_context.linear": (width, 6 * width),
        "attn.to_q": square, "attn.to_k": square, "attn.to_v": square, "attn.to_out.0": square,
        "attn.add_q_proj": square, "attn.add_k_proj": square, "attn.add_v_proj": square, "attn.to_add_out": square,
        "ff.net.0.proj": (width, 4 * width), "ff.net.2": (4 * width, width),
        "ff_context.net.0.proj": (width, 4 * width), "ff_context.net.2": (4 * width, width),
    }  # fmt: skip


def _single(width: int) -> dict[str, tuple[int, int]]:
    """Of one block with a single stream."""
    square = (width, width)
    return {
        "norm.linear": (width, 3 * width), "attn.to_q": square, "attn.to_k": square, "attn.to_v": square,
        "proj_mlp": (width, 4 * width), "proj_out": (5 * width, width),
    }  # fmt: skip
