"""Which blocks are computed a second time in the backward pass: as many as the memory needs at a sequence's length."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from sigma_backbones.planned_blocks import KeptNumbers, planned_blocks


class BlockCheckpointing:
    """The function that diffusers' FLUX transformers call for each of their blocks while gradients are computed.

    Args:
        transformer: diffusers' ``FluxTransformer2DModel`` or ``Flux2Transformer2DModel``.
        activation_bytes: what a step's activations may take; None computes every block twice.
        kept: the base's formula.
    """

    def __init__(self, transformer: Any, activation_bytes: float | None, kept: KeptNumbers) -> None:
        self.double, self.single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
        blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
        self._places = {id(block): place for place, block in enumerate(blocks)}
        self._width = int(transformer.config.attention_head_dim * transformer.config.num_attention_heads)
        self._kept = kept
        self.activation_bytes, self.twice = activation_bytes, len(blocks)

    def plan(self, batch: int, tokens: int, number_bytes: int) -> None:
        """Decides for the pass that comes, of ``batch`` sequences of ``tokens`` tokens, text included."""
        if self.activation_bytes is None:
            return
        numbers = self.activation_bytes / (batch * tokens * self._width * number_bytes)
        self.twice = planned_blocks(numbers, self.double, self.single, number_bytes, self._kept)

    def kept_bytes(self, batch: int, tokens: int, number_bytes: int) -> float:
        """What the planned pass holds, by the formula."""
        kept = self._kept(self.twice, self.double, self.single, number_bytes)
        return kept * batch * tokens * self._width * number_bytes

    def __call__(self, block: torch.nn.Module, *inputs: Any) -> Any:
        """One block, with or without a second computation."""
        if self._places.get(id(block), 0) < self.twice:
            return checkpoint(block.__call__, *inputs, use_reentrant=False)
        return block(*inputs)


def checkpoint_blocks(transformer: Any, activation_gb: float | None, kept: KeptNumbers) -> BlockCheckpointing:
    """Sets the transformer up to plan its blocks, or to compute all of them twice where no memory is named."""
    blocks = BlockCheckpointing(transformer, None if activation_gb is None else activation_gb * 1e9, kept)
    transformer.enable_gradient_checkpointing(blocks)
    return blocks
