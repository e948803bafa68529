"""FLUX.1's own names of weights, in which single files are published, and diffusers' names for the same.

diffusers converts them too, but takes every transformer to be 3,072 wide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sigma_backbones.flux_kontext.parameter_counts import linear_layers

PREFIX = "model.diffusion_model."
"""Before every name of the transformer in files that may hold other models too."""
OUTER = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
"""Layers outside the blocks."""
DOUBLE: Mapping[str, Sequence[str]] = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
"""Layers of a block with two streams; several names: one matrix that diffusers keeps in parts, one above the other."""
SINGLE: Mapping[str, Sequence[str]] = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
"""Layers of a block with a single stream."""
BLOCKS = {"double_blocks": ("transformer_blocks", DOUBLE), "single_blocks": ("single_transformer_blocks", SINGLE)}
"""By the original name: diffusers' name, and the layers."""
KINDS = {"weight": "weight", "bias": "bias", "scale": "weight"}
"""Last part of a name; the scale of a norm is its weight."""


def are_original(names: Sequence[str]) -> bool:
    """Whether weights have FLUX.1's own names."""
    return any(name.removeprefix(PREFIX).startswith(tuple(BLOCKS)) for name in names)


def to_diffusers(weights: Mapping[str, Tensor], shape: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same weights under diffusers' names, for a ``FluxTransformer2DModel`` with the config ``shape``.

    Raises:
        ValueError: the file lacks layers of this transformer, has others, or layers of other sizes.
    """
    if any(name.startswith(PREFIX) for name in weights):
        weights = {name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)}
    layers, foreign = linear_layers(shape), []
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        targets = _targets(name)
        if not targets or any(not _belongs(target, layers) for target in targets):
            foreign.append(name)
        else:
            sides = [layers.get(_layer(target)) for target in targets]
            found.update(zip(targets, _parts(name, value, sides), strict=True))
    if foreign:
        raise ValueError(f"{len(foreign)} tensors that this transformer does not have, first {foreign[0]}")
    missing = [layer for layer in layers if f"{layer}.weight" not in found or f"{layer}.bias" not in found]
    if missing:
        raise ValueError(f"{len(missing)} layers are missing, first {missing[0]}")
    return found


def _targets(name: str) -> list[str]:
    """diffusers' names for one tensor; none for a name that FLUX.1 does not have."""
    place, _, kind = name.rpartition(".")
    block = re.fullmatch(r"(double_blocks|single_blocks)\.(\d+)\.(.+)", place)
    if kind not in KINDS:
        return []
    if block is None:
        return [f"{OUTER[place]}.{KINDS[kind]}"] if place in OUTER else []
    blocks, layers = BLOCKS[block[1]]
    return [f"{blocks}.{block[2]}.{layer}.{KINDS[kind]}" for layer in layers.get(block[3], ())]


def _layer(target: str) -> str:
    return target.rpartition(".")[0]


def _belongs(target: str, layers: Mapping[str, tuple[int, int]]) -> bool:
    """Whether the transformer has the layer, or, for a norm, a layer beside it."""
    layer = _layer(target)
    return layer in layers or (".norm_" in layer and f"{layer.rpartition('.')[0]}.to_q" in layers)


def _parts(name: str, value: Tensor, sides: Sequence[tuple[int, int] | None]) -> list[Tensor]:
    """A matrix or bias cut into the rows of diffusers' layers; norms and single layers as they are."""
    rows = [outputs for _, outputs in (side or (0, value.shape[0]) for side in sides)]
    if value.shape[0] != sum(rows):
        raise ValueError(f"{name} has {value.shape[0]} rows, expected {sum(rows)}")
    if name.startswith("final_layer.adaLN_modulation"):  # shift above scale; diffusers has scale above shift
        shift, scale = value.chunk(2)
        return [torch.cat([scale, shift])]
    return [value] if len(rows) == 1 else [part.clone() for part in value.split(rows)]
