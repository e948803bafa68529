"""Prompts -> text tokens: T5's sequence and CLIP's pooled vector, padded as the checkpoint was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sigma_backbones.flux_kontext.loading import FluxKontextParts
from sigma_backbones.flux_kontext.position_ids import text_ids
from sigma_framework import TextTokens

LONGEST_TEXT = 512
"""What FLUX.1 pads to; the bound for a tokenizer that names no length of its own."""


def text_length(parts: FluxKontextParts) -> int:
    """Tokens every prompt is padded to: it belongs to the checkpoint, because nothing masks the padding."""
    return min(int(parts.tokenizer_2.model_max_length), LONGEST_TEXT)


def encode_prompts(parts: FluxKontextParts, prompts: Sequence[str], device: torch.device) -> TextTokens:
    """One row per prompt; a prompt that is too long is cut (``cut_prompts`` says where)."""
    length = text_length(parts)
    sequence = _token_ids(parts.tokenizer_2, prompts, length, device)
    pooled = _token_ids(parts.tokenizer, prompts, int(parts.tokenizer.model_max_length), device)
    values = parts.text_encoder_2(sequence).last_hidden_state
    return TextTokens(
        values=values,
        ids=text_ids(length, device),
        pooled=parts.text_encoder(pooled).pooler_output,
    )


def _token_ids(tokenizer: Any, prompts: Sequence[str], length: int, device: torch.device) -> torch.Tensor:
    batch = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return batch.input_ids.to(device)


def cut_prompts(parts: FluxKontextParts, prompts: Sequence[str]) -> list[tuple[int, str]]:
    """(tokens, words cut off) of each prompt that is longer than this base reads."""
    length, tokenizer, cuts = text_length(parts), parts.tokenizer_2, []
    for prompt in dict.fromkeys(prompts):
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        if len(ids) > length - 1:
            cuts.append((len(ids) + 1, tokenizer.decode(ids[length - 1 :]).strip()))
    return cuts
