"""Which blocks are computed a second time in the backward pass: as many as the memory needs at a sequence's length."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.flux_kontext.memory_estimate import kept_numbers, planned_blocks


class BlockCheckpointing:
    """The function that diffusers' transformer calls for each of its blocks while gradients are computed.

    Args:
        transformer: diffusers' ``FluxTransformer2DModel``.
        activation_bytes: what a step's activations may take; None computes every block twice.
    """

    def __init__(self, transformer: Any, activation_bytes: float | None) -> None:
        self.double, self.single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
        blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
        self._places = {id(block): place for place, block in enumerate(blocks)}
        self._width = int(transformer.config.attention_head_dim * transformer.config.num_attention_heads)
        self.activation_bytes, self.twice = activation_bytes, len(blocks)

    def plan(self, batch: int, tokens: int, number_bytes: int) -> None:
        """Decides for the pass that comes, of ``batch`` sequences of ``tokens`` tokens, text included."""
        if self.activation_bytes is None:
            return
        numbers = self.activation_bytes / (batch * tokens * self._width * number_bytes)
        self.twice = planned_blocks(numbers, self.double, self.single, number_bytes)

    def kept_bytes(self, batch: int, tokens: int, number_bytes: int) -> float:
        """What the planned pass holds, by the formula."""
        kept = kept_numbers(self.twice, self.double, self.single, number_bytes)
        return kept * batch * tokens * self._width * number_bytes

    def __call__(self, block: torch.nn.Module, *inputs: Any) -> Any:
        """One block, with or without a second computation."""
        if self._places.get(id(block), 0) < self.twice:
            return checkpoint(block.__call__, *inputs, use_reentrant=False)
        return block(*inputs)


def checkpoint_blocks(transformer: Any, config: FluxKontextConfig) -> BlockCheckpointing | None:
    """Sets the transformer up as the config says; None without checkpointing."""
    if not config.gradient_checkpointing:
        return None
    blocks = BlockCheckpointing(transformer, None if config.activation_gb is None else config.activation_gb * 1e9)
    transformer.enable_gradient_checkpointing(blocks)
    return blocks
