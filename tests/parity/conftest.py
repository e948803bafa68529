"""Tiny awake checkpoints of FLUX.1 Kontext's architecture, with either kind of VAE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FluxKontextPipeline

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone, build
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.pocket_training.architecture import build_pipeline
from sigma_backbones.pocket_training.options import PocketSizes

SIZES = PocketSizes(
    heads=2, axes=(4, 6, 6), double_blocks=1, single_blocks=2, text_width=16, pooled_width=16, text_layers=1,
    text_heads=2, vae_width=8,
)  # fmt: skip


@pytest.fixture(scope="session", params=["tiny", "kl"])
def kontext_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kontext") / request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = None
        if request.param == "kl":
            vae = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(8, 8, 8, 8),
                norm_num_groups=4,
                latent_channels=16,
                scaling_factor=0.3611,
                shift_factor=0.1159,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
        pipeline = build_pipeline(0, SIZES, vae)
        for parameter in pipeline.transformer.parameters():
            if not parameter.any():
                parameter.data.normal_(std=0.2)
        if vae is None:
            pipeline.vae.register_to_config(scaling_factor=1.7, shift_factor=0.2)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def backbone(kontext_folder: Path) -> FluxKontextBackbone:
    return build(FluxKontextConfig(weights=str(kontext_folder), device="cpu"))


@pytest.fixture
def pipeline(kontext_folder: Path) -> FluxKontextPipeline:
    pipeline = FluxKontextPipeline.from_pretrained(kontext_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
