"""A tiny checkpoint of FLUX.2 klein's architecture; its VAE's statistics are not those of a fresh BatchNorm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from tokenizers import pre_tokenizers
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from sigma_backbones.flux2_klein.backbone import Flux2KleinBackbone, build
from sigma_backbones.flux2_klein.config import Flux2KleinConfig

TEXT_LENGTH = 80
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""Qwen3's template as far as one message without thinking goes."""
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def tiny_tokenizer() -> Qwen2TokenizerFast:
    """Every text in bytes."""
    vocabulary = {token: index for index, token in enumerate([*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    return Qwen2TokenizerFast(
        vocab=vocabulary,
        merges=[],
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>", "<think>", "</think>"],
        chat_template=CHAT,
        model_max_length=TEXT_LENGTH,
    )


def tiny_pipeline() -> Flux2KleinPipeline:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
    vae.bn.running_mean.normal_(std=0.3)
    vae.bn.running_var.uniform_(0.05, 0.4)
    encoder = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=28, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.2, tie_word_embeddings=True,
    )  # fmt: skip
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(encoder).eval(),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=48,
            axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def klein_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "klein"
    with torch.random.fork_rng():
        tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def make_klein(klein_folder: Path) -> Callable[..., Flux2KleinBackbone]:
    def make(**options: object) -> Flux2KleinBackbone:
        return build(Flux2KleinConfig(**{"weights": str(klein_folder), "device": "cpu", **options}))

    return make


@pytest.fixture
def klein(make_klein: Callable[..., Flux2KleinBackbone]) -> Flux2KleinBackbone:
    return make_klein()


@pytest.fixture
def pipeline(klein_folder: Path) -> Flux2KleinPipeline:
    pipeline = Flux2KleinPipeline.from_pretrained(klein_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
