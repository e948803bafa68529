"""How many parameters the classes of a FLUX.2 klein checkpoint have with a given config; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

TIME_FEATURES = 256
"""Width of the sinusoidal features of t."""
MLP_RATIO = 3.0
"""Inner width of a block's MLP over the transformer's width; its gate has as many again."""


def width_of(shape: Mapping[str, Any]) -> int:
    """The transformer's width."""
    return int(shape["attention_head_dim"]) * int(shape["num_attention_heads"])


def inner_of(shape: Mapping[str, Any]) -> int:
    """The inner width of its MLPs."""
    return int(width_of(shape) * float(shape.get("mlp_ratio", MLP_RATIO)))


def transformer_parameters(shape: Mapping[str, Any]) -> int:
    """Of diffusers' ``Flux2Transformer2DModel``, which has no biases."""
    width, inner, head = width_of(shape), inner_of(shape), int(shape["attention_head_dim"])
    channels = int(shape["in_channels"])
    time_embeddings = 2 if shape.get("guidance_embeds") else 1
    features = int(shape.get("timestep_guidance_channels", TIME_FEATURES))
    outer = (channels + int(shape["joint_attention_dim"])) * width
    outer += time_embeddings * (features + width) * width
    outer += (6 + 6 + 3) * width**2  # modulations: image, text, single
    outer += 2 * width**2 + width * int(shape.get("out_channels") or channels)
    stream = 4 * width**2 + 3 * width * inner + 2 * head
    single = width * (3 * width + 2 * inner) + (width + inner) * width + 2 * head
    return outer + int(shape["num_layers"]) * 2 * stream + int(shape["num_single_layers"]) * single


def adapter_parameters(shape: Mapping[str, Any], rank: int) -> int:
    """Of a LoRA of this rank on the default targets: rank x (inputs + outputs) of each layer."""
    width, inner = width_of(shape), inner_of(shape)
    outer = int(shape["in_channels"]) + width + (1 + 6) * width + (1 + 3) * width
    double = 4 * 2 * width + inner + width
    single = width + (3 * width + 2 * inner) + (width + inner) + width
    return rank * (outer + int(shape["num_layers"]) * double + int(shape["num_single_layers"]) * single)


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
