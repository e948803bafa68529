"""How many parameters the classes of a FLUX.2 klein checkpoint have with a given config; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sigma_backbones.flux2_klein.targets import LORA
from sigma_backbones.lora import matched_names

TIME_FEATURES = 256
"""Width of the sinusoidal features of t."""
MLP_RATIO = 3.0
"""Inner width of a block's MLP over the transformer's width; its gate has as many again."""
MODULATIONS = {"double_stream_modulation_img": 6, "double_stream_modulation_txt": 6, "single_stream_modulation": 3}
"""Layers that all blocks share: how many numbers of the width each gives."""


def width_of(shape: Mapping[str, Any]) -> int:
    """The transformer's width."""
    return int(shape["attention_head_dim"]) * int(shape["num_attention_heads"])


def inner_of(shape: Mapping[str, Any]) -> int:
    """The inner width of its MLPs."""
    return int(width_of(shape) * float(shape.get("mlp_ratio", MLP_RATIO)))


def linear_layers(shape: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) by module name of every linear layer of diffusers' ``Flux2Transformer2DModel``; no biases."""
    width, inner, channels = width_of(shape), inner_of(shape), int(shape["in_channels"])
    layers = {"x_embedder": (channels, width), "context_embedder": (int(shape["joint_attention_dim"]), width)}
    features = int(shape.get("timestep_guidance_channels", TIME_FEATURES))
    for name in ("timestep_embedder", "guidance_embedder")[: 2 if shape.get("guidance_embeds", True) else 1]:
        layers[f"time_guidance_embed.{name}.linear_1"] = (features, width)
        layers[f"time_guidance_embed.{name}.linear_2"] = (width, width)
    for name, parts in MODULATIONS.items():
        layers[f"{name}.linear"] = (width, parts * width)
    for block in range(int(shape["num_layers"])):
        layers.update({f"transformer_blocks.{block}.{name}": sides for name, sides in _double(width, inner).items()})
    for block in range(int(shape["num_single_layers"])):
        layers[f"single_transformer_blocks.{block}.attn.to_qkv_mlp_proj"] = (width, 3 * width + 2 * inner)
        layers[f"single_transformer_blocks.{block}.attn.to_out"] = (width + inner, width)
    layers["norm_out.linear"] = (width, 2 * width)
    layers["proj_out"] = (width, int(shape.get("out_channels") or channels))
    return layers


def transformer_parameters(shape: Mapping[str, Any]) -> int:
    """Of diffusers' ``Flux2Transformer2DModel``."""
    norms = int(shape["attention_head_dim"]) * (4 * int(shape["num_layers"]) + 2 * int(shape["num_single_layers"]))
    return norms + sum(inputs * outputs for inputs, outputs in linear_layers(shape).values())


def adapter_parameters(shape: Mapping[str, Any], rank: int, targets: Sequence[str] | None = None) -> int:
    """Of a LoRA of this rank: rank x (inputs + outputs) of each layer that the targets mean.

    Raises:
        WeightsError: a target that means no linear layer.
    """
    layers = linear_layers(shape)
    return rank * sum(sum(layers[name]) for name in matched_names(LORA, layers, targets))


def _double(width: int, inner: int) -> dict[str, tuple[int, int]]:
    """Of one block with two streams: the image's layers and the text's; the MLPs are gated."""
    square = (width, width)
    return {
        "attn.to_q": square, "attn.to_k": square, "attn.to_v": square, "attn.to_out.0": square,
        "attn.add_q_proj": square, "attn.add_k_proj": square, "attn.add_v_proj": square, "attn.to_add_out": square,
        "ff.linear_in": (width, 2 * inner), "ff.linear_out": (inner, width),
        "ff_context.linear_in": (width, 2 * inner), "ff_context.linear_out": (inner, width),
    }  # fmt: skip


def text_encoder_parameters(shape: Mapping[str, Any]) -> int:
    """Of transformers' ``Qwen3ForCausalLM``."""
    width, head, inner = (int(shape[key]) for key in ("hidden_size", "head_dim", "intermediate_size"))
    queries = head * int(shape["num_attention_heads"])
    keys = head * int(shape["num_key_value_heads"])
    layer = 2 * width * queries + 2 * width * keys + 2 * head + 3 * width * inner + 2 * width
    tables = 1 if shape.get("tie_word_embeddings") else 2
    return tables * int(shape["vocab_size"]) * width + int(shape["num_hidden_layers"]) * layer + width


def vae_parameters(shape: Mapping[str, Any]) -> int:
    """Of diffusers' ``AutoencoderKLFlux2``; its BatchNorm has statistics and no parameters."""
    widths = [int(width) for width in shape["block_out_channels"]]
    back = [int(width) for width in reversed(shape.get("decoder_block_out_channels") or widths)]
    latents, depth = int(shape["latent_channels"]), int(shape.get("layers_per_block", 2))
    attention = bool(shape.get("mid_block_add_attention", True))
    encoder = _convolution(3, widths[0]) + _stages(widths, depth) + _middle(widths[-1], attention)
    encoder += 2 * widths[-1] + _convolution(widths[-1], 2 * latents)
    decoder = _convolution(latents, back[0]) + _middle(back[0], attention) + _stages(back, depth + 1)
    decoder += 2 * back[-1] + _convolution(back[-1], 3)
    quant = _convolution(2 * latents, 2 * latents, 1) if shape.get("use_quant_conv", True) else 0
    post = _convolution(latents, latents, 1) if shape.get("use_post_quant_conv", True) else 0
    return encoder + decoder + quant + post


def _stages(widths: list[int], depth: int) -> int:
    """Residual blocks of every stage, and a resampling convolution after each stage but the last."""
    stages = sum(
        _residual(before, width) + (depth - 1) * _residual(width, width)
        for before, width in pairwise([widths[0], *widths])
    )
    return stages + sum(_convolution(width, width) for width in widths[:-1])


def _middle(width: int, attention: bool) -> int:
    return 2 * _residual(width, width) + (2 * width + 4 * (width**2 + width) if attention else 0)


def _residual(inputs: int, outputs: int) -> int:
    shortcut = _convolution(inputs, outputs, 1) if inputs != outputs else 0
    return 2 * inputs + _convolution(inputs, outputs) + 2 * outputs + _convolution(outputs, outputs) + shortcut


def _convolution(inputs: int, outputs: int, side: int = 3) -> int:
    return side**2 * inputs * outputs + outputs
