"""The shapes of ``pocket``: FLUX.1 Kontext's architecture and geometry with a few million parameters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    ModelMixin,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from sigma_backbones.pocket_training.options import PocketSizes
from sigma_backbones.pocket_training.patch_code import (
    DECODER_CHANNELS,
    ENCODER_CHANNELS,
    start_decoder,
    start_encoder,
)
from sigma_backbones.pocket_training.tokenizers import build_clip_tokenizer, build_t5_tokenizer, read_words

LATENT_CHANNELS = 16
"""As FLUX.1's VAE; 2 x 2 latents make one token of 64 numbers per 16 x 16 pixels."""


def build_vae(
    encoder_width: int,
    encoder_blocks: tuple[int, ...],
    decoder_width: int,
    decoder_blocks: tuple[int, ...],
    seed: int,
) -> AutoencoderTiny:
    """A fresh VAE; wide enough and linear at full and half size, it starts from the code of ``patch_code``.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderTiny(
            encoder_block_out_channels=(encoder_width,) * 4,
            decoder_block_out_channels=(decoder_width,) * 4,
            num_encoder_blocks=encoder_blocks,
            num_decoder_blocks=decoder_blocks,
            latent_channels=LATENT_CHANNELS,
            scaling_factor=1.0,
            shift_factor=0.0,
        )
        for layer in (*vae.encoder.layers, *vae.decoder.layers):
            _start_layer(layer)
    if encoder_width >= ENCODER_CHANNELS and not any(encoder_blocks[:2]):
        start_encoder(vae)
    if decoder_width >= DECODER_CHANNELS:
        start_decoder(vae)
    return vae


def _start_layer(layer: nn.Module) -> None:
    """Convolutions keep the variance; residual blocks start as (rectified) identity."""
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        return
    convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    if convolutions:
        nn.init.normal_(convolutions[-1].weight, std=0.02 * convolutions[-1].weight[0].numel() ** -0.5)


def build_untrained(
    folder: Path, seed: int, sizes: PocketSizes | None = None, vae: AutoencoderTiny | None = None
) -> None:
    """Writes a whole diffusers folder of FLUX.1 Kontext's architecture with random weights.

    Args:
        folder: where to write; ``FluxKontextPipeline.from_pretrained`` of diffusers reads it.
        seed: of the weights.
        sizes: the transformer's and the text encoders' sizes; None is pocket's own.
        vae: a trained VAE to put in; None is a fresh one.
    """
    build_pipeline(seed, sizes or PocketSizes(), vae).to(torch.bfloat16).save_pretrained(folder)


def build_pipeline(seed: int, sizes: PocketSizes, vae: AutoencoderTiny | None = None) -> FluxKontextPipeline:
    """The parts of an untrained pocket checkpoint in float32; the transformer's output and gates start at zero."""
    words = read_words()
    tokenizer, tokenizer_2 = build_clip_tokenizer(words), build_t5_tokenizer(words)
    if vae is None:
        vae = build_vae(sizes.vae_width, (0, 0, 1, 1), sizes.vae_width, (1, 1, 0, 0), seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FluxKontextPipeline(
            scheduler=build_scheduler(),
            vae=vae,
            text_encoder=_clip_encoder(tokenizer, sizes),
            tokenizer=tokenizer,
            text_encoder_2=_t5_encoder(tokenizer_2, sizes),
            tokenizer_2=tokenizer_2,
            transformer=_transformer(sizes),
        )


def portable_copy(model: Any) -> Any:
    """The same model in bfloat16, its config without the place that it was loaded from."""
    if isinstance(model, ModelMixin):
        twin = type(model).from_config({key: value for key, value in model.config.items() if not key.startswith("_")})
    else:
        settings = copy.deepcopy(model.config)
        settings.name_or_path = ""
        twin = type(model)(settings)
    twin.load_state_dict(model.state_dict())
    return twin.to(torch.bfloat16)


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1 Kontext's schedule: shifted by the number of target tokens."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def _clip_encoder(tokenizer: CLIPTokenizer, sizes: PocketSizes) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.pooled_width,
        intermediate_size=2 * sizes.pooled_width,
        projection_dim=sizes.pooled_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,  # CLIP's default is an id that a small vocabulary does not have
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def _t5_encoder(tokenizer: PreTrainedTokenizerFast, sizes: PocketSizes) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=sizes.text_width,
        d_kv=sizes.text_width // sizes.text_heads,
        d_ff=2 * sizes.text_width,
        num_layers=sizes.text_layers,
        num_heads=sizes.text_heads,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return T5EncoderModel(config)


def _transformer(sizes: PocketSizes) -> FluxTransformer2DModel:
    transformer = FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=sizes.double_blocks,
        num_single_layers=sizes.single_blocks,
        attention_head_dim=sum(sizes.axes),
        num_attention_heads=sizes.heads,
        joint_attention_dim=sizes.text_width,
        pooled_projection_dim=sizes.pooled_width,
        guidance_embeds=False,
        axes_dims_rope=sizes.axes,
    )
    silent = [transformer.proj_out, transformer.norm_out.linear]
    silent += [block.norm.linear for block in transformer.single_transformer_blocks]
    for block in transformer.transformer_blocks:
        silent += [block.norm1.linear, block.norm1_context.linear]
    for layer in silent:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer
