"""Prompts -> text tokens: three hidden layers of Qwen3 side by side, under its chat template without thinking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sigma_backbones.flux2_klein.loading import Flux2KleinParts
from sigma_backbones.flux2_klein.position_ids import text_ids
from sigma_framework import TextTokens

LAYERS = (9, 18, 27)
"""Hidden states that FLUX.2 klein reads: after 9, 18 and 27 of the encoder's layers."""
LONGEST_TEXT = 512
"""What the pipeline pads to; the bound for a tokenizer that names no length, or a far larger one."""


def text_length(parts: Flux2KleinParts) -> int:
    """Tokens every prompt is padded to: the transformer takes no mask, so the padding is part of what it learned."""
    return min(int(parts.tokenizer.model_max_length), LONGEST_TEXT)


def encode_prompts(parts: Flux2KleinParts, prompts: Sequence[str], device: torch.device) -> TextTokens:
    """(b, length, 3 * width), one row per prompt; a prompt that is too long is cut (``cut_prompts`` says where)."""
    length = text_length(parts)
    texts = [chat_text(parts.tokenizer, prompt) for prompt in prompts]
    batch = parts.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    layers = parts.text_encoder.model(  # without the head: 152,000 numbers per token that nobody reads
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states
    values = torch.cat([layers[layer] for layer in LAYERS], dim=-1)
    return TextTokens(values=values, ids=text_ids(length, device))


def chat_text(tokenizer: Any, prompt: str) -> str:
    """The prompt as a user's message to Qwen3, with the answer begun and thinking switched off."""
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def cut_prompts(parts: Flux2KleinParts, prompts: Sequence[str]) -> list[tuple[int, str]]:
    """(tokens, words cut off) of each prompt that is longer than this base reads; the template counts too."""
    length, cuts = text_length(parts), []
    for prompt in dict.fromkeys(prompts):
        text = chat_text(parts.tokenizer, prompt)
        read = parts.tokenizer(text, return_offsets_mapping=True, verbose=False)
        if len(read.input_ids) > length:
            end = text.rfind(prompt.strip()) + len(prompt.strip())
            lost = text[read.offset_mapping[length][0] : end].strip()
            if lost:
                cuts.append((len(read.input_ids), lost))
    return cuts
