"""How much of the device's memory a run needs, per profile, by closed formulas; no torch.

The factors are what the storages of all live tensors add up to, per token and number of the width, in forward and
backward passes of the transformer with an adapter (a test counts them again), and per pixel in FLUX.1's VAE at full
size. What the allocator, kernels' workspaces and libraries hold comes on top; ``bench/full_size.py`` measures it on a
GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_backbones import POCKET
from sigma_backbones.flux_kontext.config import (
    PROFILES,
    FluxKontextConfig,
    MemoryOptions,
    memory_options,
    quantization,
)
from sigma_backbones.flux_kontext.parameter_counts import linear_layers, norm_parameters, transformer_parameters
from sigma_backbones.planned_blocks import planned_blocks

BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED_BYTES = {"int8": (1.0, 5), "float8": (1.0, 4), "nf4": (0.5 + 4 / 64, 0)}
"""Of a linear layer's matrix, per number and per row: torchao keeps a float32 scale (and an int8 zero point) per row,
bitsandbytes one per 64 numbers."""
PRODIGY_BYTES = 4 * (1 + 1 + 4)
"""Per adapter parameter in training: weight, gradient, and Prodigy's two moments, s and the start, float32 each."""
FORWARD_KEPT = 16.5
"""Numbers of the transformer's width per token that are alive at once in a forward pass without gradients."""


@dataclass(frozen=True, kw_only=True)
class BackwardKept:
    """Numbers of the width per token, in the base's kind of numbers; the adapter's own are float32."""

    outside: float
    double: float
    single: float
    checkpointed: float
    """With checkpointing: the block that is computed again; each block also keeps its input, 1."""


BACKWARD_KEPT = {
    2: BackwardKept(outside=17, double=34.5, single=33.5, checkpointed=51),
    4: BackwardKept(outside=11, double=21.2, single=19.2, checkpointed=30),
}
"""By bytes per number; 16-bit bases keep float32 copies of each adapter's input."""
DECODE_KEPT, ENCODE_KEPT = 770, 645
"""Numbers per pixel that are alive at once while FLUX.1's VAE decodes and encodes."""
TILE_PIXELS = 512
"""Side of a tile of the tiled decoding."""
RESIDENT_BLOCKS = 2
"""With group offload: the block that computes and the one that travels, counted as blocks with two streams."""


def memory_estimate(
    config: FluxKontextConfig,
    facts: Mapping[str, Any],
    shape: Mapping[str, Any],
    tokens: Mapping[str, int],
    parameters: Mapping[str, int | None],
) -> dict[str, int]:
    """Bytes on one device.

    Returns:
        ``weights`` of all models together, ``adapter_and_optimizer``, ``activations`` of the transformer, ``vae`` (what
        its encoding or decoding needs at once), ``peak`` as configured, and ``peak_<profile>`` for each profile that
        serves the task.
    """
    size = number_bytes(config)
    trains = facts.get("task") == "train"
    estimate = {
        "weights": transformer_bytes(config, shape)
        + size * sum(parameters[name] or 0 for name in ("vae", "text_encoders")),
        "adapter_and_optimizer": (parameters["adapter"] or 0) * (PRODIGY_BYTES if trains else 4),
        "activations": activations(config, facts, shape, tokens),
        "vae": vae_activations(facts, size, tiled=memory_options(config).vae_tiling),
    }
    chosen = memory_options(config)
    estimate["peak"] = peak(chosen, config, estimate, facts, shape, parameters)
    for name, options in PROFILES.items():
        if not (trains and options.offload == "group"):
            estimate[f"peak_{name}"] = peak(options, config, estimate, facts, shape, parameters)
    return estimate


def number_bytes(config: FluxKontextConfig) -> int:
    """Bytes per number of the frozen weights; ``auto`` is counted as it loads on the usual device."""
    return BYTES_PER_NUMBER.get(config.dtype) or (4 if config.weights == POCKET else 2)


def activations(
    config: FluxKontextConfig, facts: Mapping[str, Any], shape: Mapping[str, Any], tokens: Mapping[str, int]
) -> int:
    """Bytes of the transformer's activations, with attention that never writes its matrix down."""
    width = int(shape["attention_head_dim"]) * int(shape["num_attention_heads"])
    double, single = int(shape["num_layers"]), int(shape["num_single_layers"])
    size = number_bytes(config)
    if facts.get("task") != "train":
        kept = FORWARD_KEPT
    else:
        each = tokens["total"] * width * size * int(facts.get("batch_size", 1))
        twice = double + single if config.gradient_checkpointing else 0
        if twice and config.activation_gb is not None:
            twice = planned_blocks(config.activation_gb * 1e9 / each, double, single, size, kept_numbers)
        kept = kept_numbers(twice, double, single, size)
    return round(tokens["total"] * width * kept * size) * int(facts.get("batch_size", 1))


def kept_numbers(twice: int, double: int, single: int, size: int) -> float:
    """Numbers of the width per token that a training step holds.

    The backward pass comes to the first blocks when it is done with the others: what is kept of these and a block that
    is computed again are never there together.

    Args:
        twice: how many blocks are computed twice, the first ones.
        double: blocks with two streams, which come first.
        single: the others.
        size: bytes per number.
    """
    kept = BACKWARD_KEPT[size]
    once_double, once_single = max(0, double - twice), min(single, double + single - twice)
    whole = kept.double * once_double + kept.single * once_single
    return twice + max(kept.outside + whole, kept.checkpointed if twice else 0)


def vae_activations(facts: Mapping[str, Any], size: int, *, tiled: bool) -> int:
    """Bytes of the larger of decoding the picture and encoding the tall identity image, which is never tiled."""
    height, width = facts["size_hw"]
    side = facts["identity_size"]
    block_height, block_width = side if isinstance(side, tuple | list) else (side, side)
    pixels = min(height, TILE_PIXELS) * min(width, TILE_PIXELS) if tiled else height * width
    encoded = max(height * width, int(facts["subjects"]) * block_height * block_width)
    decodes = 0 if facts.get("task") == "train" else DECODE_KEPT * pixels
    return size * int(facts.get("batch_size", 1)) * max(decodes, ENCODE_KEPT * encoded)


def transformer_bytes(config: FluxKontextConfig, shape: Mapping[str, Any]) -> int:
    """Bytes of the transformer's weights, quantized or not; a GGUF file's own where it is here."""
    size, kind = number_bytes(config), quantization(config)
    plain = size * transformer_parameters(shape)
    if kind is None:
        return plain
    if kind == "gguf":
        file = Path(str(config.transformer)).expanduser()
        return file.stat().st_size if file.is_file() else plain
    number, row = QUANTIZED_BYTES[kind]
    layers = linear_layers(shape).values()
    matrices = sum(number * inputs * outputs + row * outputs for inputs, outputs in layers)
    return round(matrices) + size * (sum(outputs for _, outputs in layers) + norm_parameters(shape))


def peak(
    options: MemoryOptions,
    config: FluxKontextConfig,
    estimate: Mapping[str, int],
    facts: Mapping[str, Any],
    shape: Mapping[str, Any],
    parameters: Mapping[str, int | None],
) -> int:
    """Bytes at the fullest moment: weights that are there, the adapter, and the largest of the activations."""
    size = number_bytes(config)
    vae, text = (size * (parameters[name] or 0) for name in ("vae", "text_encoders"))
    transformer = transformer_bytes(config, shape)
    busy = max(estimate["activations"], vae_activations(facts, size, tiled=options.vae_tiling))
    if quantization(config) is not None:  # one layer at a time is written out in the numbers of the activations
        busy += size * max(inputs * outputs for inputs, outputs in linear_layers(shape).values())
    if options.offload == "none":
        return transformer + vae + text + estimate["adapter_and_optimizer"] + busy
    if options.offload == "model":
        return max(text, transformer + vae + estimate["adapter_and_optimizer"] + busy)
    outer, block = _outer_and_block(config, shape, transformer)
    share = RESIDENT_BLOCKS * block / max(1, transformer)
    return max(text, outer + round(share * (transformer + estimate["adapter_and_optimizer"])) + vae + busy)


def _outer_and_block(config: FluxKontextConfig, shape: Mapping[str, Any], transformer: int) -> tuple[int, int]:
    """Bytes outside the blocks and of one block with two streams; a file's are shared out by parameters."""
    without = {**shape, "num_layers": 0, "num_single_layers": 0}
    one = {**without, "num_layers": 1}
    if quantization(config) == "gguf":
        scale = transformer / transformer_parameters(shape)
        outer = round(scale * transformer_parameters(without))
        return outer, round(scale * transformer_parameters(one)) - outer
    outer = transformer_bytes(config, without)
    return outer, transformer_bytes(config, one) - outer
