"""Both samplers against diffusers' pipelines, where the two coincide: one reference and no spatial control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxKontextInpaintPipeline, FluxKontextPipeline
from PIL import Image

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import SampleRequest
from sigma_framework.generation import image_tensor
from sigma_samplers import blended_insertion
from sigma_samplers.blended_insertion import BlendedInsertionSampler
from sigma_samplers.config import BlendedInsertionConfig, GenerateConfig
from sigma_samplers.generate import GenerateSampler

PROMPT, NEGATIVE, STEPS, HEIGHT, WIDTH = "Place these subjects in a grey floor", "blurred", 4, 32, 64


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def request(backbone: FluxKontextBackbone, reference: np.ndarray, **more: object) -> SampleRequest:
    return SampleRequest(
        text=backbone.encode_prompt([PROMPT]),
        conditions=(backbone.encode_image(image_tensor([reference]), "identity"),),
        size_hw=(HEIGHT, WIDTH),
        steps=STEPS,
        generators=(torch.Generator().manual_seed(7),),
        **more,
    )


def asked(backbone: FluxKontextBackbone) -> dict[str, Any]:
    """The same request of a pipeline, without its pictures and prompts."""
    return {
        "height": HEIGHT,
        "width": WIDTH,
        "max_area": HEIGHT * WIDTH,
        "_auto_resize": False,
        "num_inference_steps": STEPS,
        "max_sequence_length": int(backbone.parts.tokenizer_2.model_max_length),
        "generator": torch.Generator().manual_seed(7),
        "output_type": "pt",
    }


@pytest.mark.parametrize("true_cfg", [1.0, 3.0])
def test_generate_is_the_pipeline_with_one_reference(
    backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline, true_cfg: float
) -> None:
    reference = picture(0, 48, 80)
    negative = backbone.encode_prompt([NEGATIVE]) if true_cfg > 1 else None
    mine = GenerateSampler(GenerateConfig()).sample(
        backbone, request(backbone, reference, negative_text=negative, true_cfg=true_cfg)
    )
    theirs = pipeline(
        image=Image.fromarray(reference),
        prompt=PROMPT,
        negative_prompt=NEGATIVE if true_cfg > 1 else None,
        true_cfg_scale=true_cfg,
        **asked(backbone),
    ).images
    assert theirs.shape == (1, 3, HEIGHT, WIDTH)
    assert torch.allclose((mine + 1) / 2, theirs, atol=1e-5)


def insert_both(backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] of our blend and of diffusers', with a mask on the grid of latents."""
    background, reference = picture(1, HEIGHT, WIDTH), picture(2, 48, 80)
    region = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    region[8:32, 16:40] = 1
    mine = BlendedInsertionSampler(BlendedInsertionConfig()).sample(
        backbone,
        request(backbone, reference, background=image_tensor([background]), region=torch.from_numpy(region)),
    )
    inpaint = FluxKontextInpaintPipeline(**pipeline.components)
    inpaint.set_progress_bar_config(disable=True)
    theirs = inpaint(
        image=Image.fromarray(background),
        image_reference=Image.fromarray(reference),
        mask_image=Image.fromarray((region * 255).astype(np.uint8)),
        prompt=PROMPT,
        strength=1.0,
        **asked(backbone),
    ).images
    return (mine + 1) / 2, theirs


def test_blended_insertion_is_the_inpainting_pipeline_s_blend(
    backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline
) -> None:
    mine, theirs = insert_both(backbone, pipeline)
    assert theirs.shape == (1, 3, HEIGHT, WIDTH)
    assert torch.allclose(mine, theirs, atol=1e-5)


def other_noise(clean: torch.Tensor, noise: torch.Tensor, t: float) -> torch.Tensor:
    return (1 - t) * clean + t * noise.flip(1)


def noisy_at_the_end(clean: torch.Tensor, noise: torch.Tensor, t: float) -> torch.Tensor:
    return (1 - max(t, 0.3)) * clean + max(t, 0.3) * noise


@pytest.mark.parametrize("damage", [other_noise, noisy_at_the_end])
@pytest.mark.parametrize("kontext_folder", ["kl"], indirect=True)
def test_the_comparison_notices_a_wrong_blend(
    backbone: FluxKontextBackbone,
    pipeline: FluxKontextPipeline,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[..., torch.Tensor],
) -> None:
    monkeypatch.setattr(blended_insertion, "noised", damage)
    mine, theirs = insert_both(backbone, pipeline)
    assert (mine - theirs).abs().max() > 1e-3
