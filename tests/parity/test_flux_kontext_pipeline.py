"""The backbone against diffusers' ``FluxKontextPipeline`` on equal weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift, retrieve_timesteps

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.tokens import pack, unpack
from sigma_framework import Tokens

PROMPTS = ["Place these subjects in a grey floor", "a red cube"]


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=seeded(3)[0]) * 2 - 1


def test_packing_and_unpacking() -> None:
    latents = torch.randn(2, 16, 6, 10, generator=seeded(0)[0])
    packed = FluxKontextPipeline._pack_latents(latents, 2, 16, 6, 10)
    assert torch.equal(pack(latents), packed)
    assert torch.equal(unpack(packed, 6, 10), FluxKontextPipeline._unpack_latents(packed, 48, 80, 8))
    assert torch.equal(unpack(pack(latents), 6, 10), latents)


def test_noise_reference_latents_and_ids(backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline) -> None:
    images = pictures(2, 48, 80)
    noise, reference, noise_ids, reference_ids = pipeline.prepare_latents(
        images, 2, 16, 32, 64, torch.float32, torch.device("cpu"), seeded(7, 8)
    )
    mine, identity = backbone.noise((32, 64), seeded(7, 8)), backbone.encode_image(images, "identity")
    assert torch.equal(mine.values, noise)
    assert torch.equal(mine.ids, noise_ids)
    assert torch.allclose(identity.values, reference, atol=1e-6)
    assert torch.equal(identity.ids, reference_ids)
    assert torch.equal(backbone.encode_image(pictures(1, 32, 64), "spatial").ids, noise_ids)


@pytest.mark.parametrize("count", [1, 4, 28])
@pytest.mark.parametrize("length", [6, 64, 4096])
def test_schedule(backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline, count: int, length: int) -> None:
    mu = calculate_shift(length)
    retrieve_timesteps(pipeline.scheduler, count, "cpu", sigmas=np.linspace(1.0, 1 / count, count), mu=mu)
    assert torch.equal(backbone.timesteps(count, length), pipeline.scheduler.sigmas)


def test_prompts(backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline) -> None:
    text = backbone.encode_prompt(PROMPTS)
    embeds, pooled, ids = pipeline.encode_prompt(PROMPTS, PROMPTS, max_sequence_length=text.values.shape[1])
    assert torch.allclose(text.values, embeds, atol=1e-6)
    assert torch.allclose(text.pooled, pooled, atol=1e-6)
    assert torch.equal(text.ids, ids)


def test_decoding(backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline) -> None:
    values = backbone.noise((32, 64), seeded(0)).values
    latents = pipeline._unpack_latents(values, 32, 64, 8)
    latents = latents / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
    theirs = pipeline.vae.decode(latents, return_dict=False)[0]
    assert torch.allclose(backbone.decode(values, (32, 64)), theirs.clamp(-1, 1), atol=1e-5)


def euler(backbone: FluxKontextBackbone, reference: torch.Tensor, steps: int) -> torch.Tensor:
    text, x = backbone.encode_prompt(PROMPTS), backbone.noise((32, 64), seeded(7, 8))
    conditions = [backbone.encode_image(reference, "identity")]
    times = backbone.timesteps(steps, x.length)
    for now, then in pairwise(times):
        velocity = backbone.velocity(x, now.expand(2), text, conditions)
        x = Tokens(values=x.values + (then - now) * velocity, ids=x.ids)
    return x.values


@torch.no_grad()
def test_a_whole_generation_with_one_reference(backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline) -> None:
    reference = pictures(2, 48, 80)
    theirs = pipeline(
        image=(reference + 1) / 2,
        prompt=PROMPTS,
        height=32,
        width=64,
        num_inference_steps=5,
        generator=seeded(7, 8),
        max_sequence_length=backbone.encode_prompt(PROMPTS).values.shape[1],
        max_area=32 * 64,
        _auto_resize=False,
        output_type="latent",
    ).images
    assert torch.allclose(euler(backbone, reference, 5), theirs, atol=1e-4)


@torch.no_grad()
def test_diffusers_reads_our_adapter(
    backbone: FluxKontextBackbone, pipeline: FluxKontextPipeline, tmp_path: Path
) -> None:
    x, text = backbone.noise((32, 64), seeded(1)), backbone.encode_prompt(PROMPTS[:1])
    arguments = (x, torch.tensor([0.4]), text, [])
    before = backbone.velocity(*arguments)
    backbone.add_adapter("sigma", 4, 6.0, None, 0)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=seeded(2)[0]) * 0.2
    path = backbone.save_adapter(tmp_path, "sigma", {"sigma.note": "kept"})
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    theirs = pipeline.transformer(
        hidden_states=x.values,
        timestep=torch.tensor([0.4]),
        pooled_projections=text.pooled,
        encoder_hidden_states=text.values,
        txt_ids=text.ids,
        img_ids=x.ids,
        return_dict=False,
    )[0]
    mine = backbone.velocity(*arguments)
    assert (mine - before).abs().max() > 1e-3
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_the_same_parts_make_a_pipeline(backbone: FluxKontextBackbone) -> None:
    assert isinstance(backbone.pipeline(), FluxKontextPipeline)
    assert backbone.pipeline().transformer is backbone.transformer
