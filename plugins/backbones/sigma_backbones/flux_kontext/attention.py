"""Where target tokens look: attention probabilities beside diffusers' own attention, which stays what it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Report = Callable[[int, tuple[Tensor, ...]], None]
"""Layer, and per condition (b, heads, rows, l_condition) probabilities."""


@dataclass(kw_only=True, eq=False)
class AttentionWatch:
    """What is watched, and how the sequence of the present call is made up."""

    rows: Tensor
    """(r,) indices of target tokens."""
    report: Report
    """Called once per layer and call of the transformer."""
    layers: Collection[int] | None = None
    """Those that report; None is all."""
    gradients: bool = False
    """Whether what is reported can be differentiated."""
    lengths: tuple[int, ...] = ()
    """Tokens of the text, of X, and of each condition; set before each call of the transformer."""
    resting: bool = False
    """Whether the present call reports nothing; set before each call of the transformer."""


class WatchedProcessor:
    """diffusers' processor of one layer, with a look at its probabilities before it works."""

    def __init__(self, inner: Any, layer: int, watch: AttentionWatch) -> None:
        self.inner, self.layer, self.watch = inner, layer, watch

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """As diffusers calls it."""
        if self.watch.resting:
            return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        with torch.set_grad_enabled(self.watch.gradients and torch.is_grad_enabled()):
            query, key = _queries_and_keys(attn, hidden_states, encoder_hidden_states, image_rotary_emb)
            self.watch.report(self.layer, _probabilities(query, key, self.watch))
        return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)


@contextmanager
def watched(transformer: Any, watch: AttentionWatch) -> Iterator[None]:
    """Puts the watch on the attention layers, double-stream blocks first, and takes it off again."""
    layers = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    inner = [block.attn.processor for block in layers]
    try:
        for number, (block, processor) in enumerate(zip(layers, inner, strict=True)):
            if watch.layers is None or number in watch.layers:
                block.attn.processor = WatchedProcessor(processor, number, watch)
        yield
    finally:
        for block, processor in zip(layers, inner, strict=True):
            block.attn.processor = processor


def _queries_and_keys(attn: Any, hidden: Tensor, text: Tensor | None, rotary: Any) -> tuple[Tensor, Tensor]:
    """(b, l, heads, d) each over the whole sequence, text first, as the layer itself makes them."""
    from diffusers.models.embeddings import apply_rotary_emb

    query, key = (attn.norm_q(_heads(attn, attn.to_q(hidden))), attn.norm_k(_heads(attn, attn.to_k(hidden))))
    if text is not None:  # a double-stream block has projections of its own for the text
        query = torch.cat([attn.norm_added_q(_heads(attn, attn.add_q_proj(text))), query], dim=1)
        key = torch.cat([attn.norm_added_k(_heads(attn, attn.add_k_proj(text))), key], dim=1)
    if rotary is not None:
        query = apply_rotary_emb(query, rotary, sequence_dim=1)
        key = apply_rotary_emb(key, rotary, sequence_dim=1)
    return query, key


def _heads(attn: Any, projected: Tensor) -> Tensor:
    return projected.unflatten(-1, (-1, attn.head_dim))


def _probabilities(query: Tensor, key: Tensor, watch: AttentionWatch) -> tuple[Tensor, ...]:
    """Softmax over all keys, cut into the conditions."""
    text, target, *conditions = watch.lengths
    asked = query[:, watch.rows.to(query.device) + text].float()
    scores = torch.einsum("brhd,bkhd->bhrk", asked, key.float()) * query.shape[-1] ** -0.5
    chances = scores.softmax(dim=-1)
    return tuple(chances[..., text + target :].split(list(conditions), dim=-1))
