"""The backbone and both samplers against diffusers' own pipelines for FLUX.2 klein on equal weights.

Arithmetic that is shared must agree to the last bit; whole loops within ``ROUNDING`` in float32. The last tests break
one thing each and see the comparison fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu, retrieve_timesteps
from PIL import Image

from sigma_backbones.flux2_klein import tokens
from sigma_backbones.flux2_klein.backbone import Flux2KleinBackbone, build
from sigma_backbones.flux2_klein.config import Flux2KleinConfig
from sigma_framework import SampleRequest, Tokens
from sigma_framework.generation import image_tensor
from sigma_samplers.blended_insertion import BlendedInsertionSampler
from sigma_samplers.config import BlendedInsertionConfig, GenerateConfig
from sigma_samplers.generate import GenerateSampler

ROUNDING = 1e-5
SIZE_HW = (64, 96)
"""The pipelines take no side under 64 pixels."""
STEPS = 4
PROMPT = "a red cube"


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def picture(height: int, width: int, seed: int) -> Image.Image:
    """Smooth, so that its latents are of a picture's kind."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def tensor(image: Image.Image) -> torch.Tensor:
    return image_tensor([np.asarray(image)])


IDENTITY, SPATIAL = picture(192, 64, 1), picture(*SIZE_HW, 2)
"""``I^S`` of three square blocks, and ``I^C``."""


def conditions(klein: Flux2KleinBackbone) -> list[Tokens]:
    return [klein.encode_image(tensor(IDENTITY), "identity"), klein.encode_image(tensor(SPATIAL), "spatial")]


def request(klein: Flux2KleinBackbone, given: list[Tokens], true_cfg: float = 4.0, **more: object) -> SampleRequest:
    return SampleRequest(
        text=klein.encode_prompt([PROMPT]),
        negative_text=klein.encode_prompt([""]) if true_cfg != 1.0 else None,
        conditions=tuple(given),
        size_hw=SIZE_HW,
        steps=STEPS,
        guidance=None,
        true_cfg=true_cfg,
        generators=tuple(seeded(7)),
        **more,
    )


def generated(klein: Flux2KleinBackbone, given: list[Tokens], true_cfg: float = 4.0) -> torch.Tensor:
    """Our image in [0, 1]."""
    made = GenerateSampler(GenerateConfig()).sample(klein, request(klein, given, true_cfg))
    return (made + 1) / 2


def their_image(pipeline: Flux2KleinPipeline, images: list[Image.Image], guidance_scale: float = 4.0) -> torch.Tensor:
    return pipeline(
        image=images,
        prompt=PROMPT,
        height=SIZE_HW[0],
        width=SIZE_HW[1],
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        generator=seeded(7),
        max_sequence_length=pipeline.tokenizer.model_max_length,
        output_type="pt",
    ).images


@pytest.fixture(scope="module")
def klein(klein_folder: Path) -> Flux2KleinBackbone:
    """One for all: nothing here changes it."""
    return build(Flux2KleinConfig(weights=str(klein_folder), device="cpu"))


@pytest.fixture(scope="module")
def pipeline(klein_folder: Path) -> Flux2KleinPipeline:
    """Loaded by diffusers alone."""
    pipeline = Flux2KleinPipeline.from_pretrained(klein_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def lay_second_on_target(pipeline: Flux2KleinPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's second reference at T = 0 like its noise: the whole method [X, I^S, I^C] by diffusers' loop."""
    theirs = pipeline._prepare_image_ids

    def ids(latents: list[torch.Tensor]) -> torch.Tensor:
        first, second = theirs(latents[:1]), pipeline._prepare_latent_ids(latents[1])
        return torch.cat([first, second], dim=1)

    monkeypatch.setattr(pipeline, "_prepare_image_ids", ids)


def test_packing_and_normalisation(klein: Flux2KleinBackbone) -> None:
    latents, vae = torch.randn(2, 32, 6, 10, generator=seeded(0)[0]), klein.parts.vae
    patches = Flux2KleinPipeline._patchify_latents(latents)
    packed = tokens.pack(latents)
    assert torch.equal(packed, Flux2KleinPipeline._pack_latents(patches))
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    normal = tokens.normalise(packed, vae)
    assert torch.equal(normal, Flux2KleinPipeline._pack_latents((patches - mean) / deviation))
    assert torch.allclose(tokens.unpack(tokens.denormalise(normal, vae), 6, 10), latents, atol=1e-6)


def test_noise_and_ids(klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline) -> None:
    noise, ids = pipeline.prepare_latents(2, 32, *SIZE_HW, torch.float32, torch.device("cpu"), seeded(7, 8))
    mine = klein.noise(SIZE_HW, seeded(7, 8))
    assert torch.equal(mine.values, noise)
    assert torch.equal(mine.ids, ids[0])
    assert torch.equal(klein.encode_image(tensor(SPATIAL), "spatial").ids, ids[0])


def test_reference(klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline) -> None:
    reference, ids = pipeline.prepare_image_latents([tensor(IDENTITY)], 1, None, torch.device("cpu"), torch.float32)
    mine = klein.encode_image(tensor(IDENTITY), "identity")
    assert torch.equal(mine.values, reference)
    assert torch.equal(mine.ids, ids[0])
    assert mine.ids[:, 0].unique().tolist() == [10]


def test_prompts(klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline) -> None:
    prompts = [PROMPT, "", "a much longer prompt that does not fit into the text length of this checkpoint"]
    text = klein.encode_prompt(prompts)
    embeds, ids = pipeline.encode_prompt(prompts, max_sequence_length=pipeline.tokenizer.model_max_length)
    assert torch.equal(text.values, embeds)
    assert torch.equal(text.ids, ids[0])
    assert text.pooled is None


@pytest.mark.parametrize("count", [1, 4, 50])
@pytest.mark.parametrize("length", [8, 4096, 8192])
def test_schedule(klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline, count: int, length: int) -> None:
    mu = compute_empirical_mu(length, count)
    retrieve_timesteps(pipeline.scheduler, count, "cpu", sigmas=np.linspace(1.0, 1 / count, count), mu=mu)
    assert torch.equal(klein.timesteps(count, length), pipeline.scheduler.sigmas)


@pytest.mark.parametrize("true_cfg", [1.0, 4.0])
def test_a_whole_generation_with_one_reference(
    klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline, true_cfg: float
) -> None:
    mine = generated(klein, [klein.encode_image(tensor(IDENTITY), "identity")], true_cfg)
    theirs = their_image(pipeline, [IDENTITY], true_cfg)
    assert mine.std() > 0.05, "a flat picture would prove nothing"
    assert (mine - theirs).abs().max() <= ROUNDING


@pytest.mark.usefixtures("lay_second_on_target")
def test_a_whole_generation_with_identities_and_spatial_control(
    klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline
) -> None:
    theirs = their_image(pipeline, [IDENTITY, SPATIAL])
    assert (generated(klein, conditions(klein)) - theirs).abs().max() <= ROUNDING


def test_blended_insertion_is_the_inpainting_pipeline_s_blend(
    klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline
) -> None:
    """Hard mask on token borders. That pipeline shows the photograph as a first reference, so we do, too."""
    photo, mask = picture(*SIZE_HW, 3), np.zeros(SIZE_HW, np.uint8)
    mask[:32, 16:64] = 255
    inpaint = Flux2KleinInpaintPipeline(**pipeline.components)
    inpaint.set_progress_bar_config(disable=True)
    theirs = inpaint(
        prompt=PROMPT,
        image=photo,
        image_reference=IDENTITY,
        mask_image=Image.fromarray(mask),
        strength=1.0,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=seeded(7),
        max_sequence_length=pipeline.tokenizer.model_max_length,
        output_type="pt",
    ).images
    first, second = klein.encode_image(tensor(photo), "identity"), klein.encode_image(tensor(IDENTITY), "identity")
    second = replace(second, ids=second.ids + torch.tensor([10, 0, 0, 0]))
    more = {"background": tensor(photo), "region": torch.from_numpy(mask / 255)}
    asked = request(klein, [first, second], **more)
    made = BlendedInsertionSampler(BlendedInsertionConfig()).sample(klein, asked)
    assert ((made + 1) / 2 - theirs).abs().max() <= ROUNDING


def swap_two_ids(given: list[Tokens]) -> list[Tokens]:
    identity, spatial = given
    ids = identity.ids.clone()
    ids[[0, 1]] = ids[[1, 0]]
    return [replace(identity, ids=ids), spatial]


def shift_identity_time(given: list[Tokens]) -> list[Tokens]:
    identity, spatial = given
    return [replace(identity, ids=identity.ids - torch.tensor([9, 0, 0, 0])), spatial]


def shift_spatial_time(given: list[Tokens]) -> list[Tokens]:
    identity, spatial = given
    return [identity, replace(spatial, ids=spatial.ids + torch.tensor([20, 0, 0, 0]))]


def scale_identity(given: list[Tokens]) -> list[Tokens]:
    identity, spatial = given
    return [replace(identity, values=identity.values * 0.5), spatial]


@pytest.mark.usefixtures("lay_second_on_target")
@pytest.mark.parametrize(
    "break_one_thing",
    [
        swap_two_ids,
        shift_identity_time,
        shift_spatial_time,
        scale_identity,
        pytest.param(lambda given: given[:1], id="drop_spatial"),
        pytest.param(lambda given: given[1:], id="drop_identity"),
    ],
)
def test_the_comparison_sees_what_is_broken(
    klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline, break_one_thing: Callable[[list[Tokens]], list[Tokens]]
) -> None:
    theirs = their_image(pipeline, [IDENTITY, SPATIAL])
    broken = generated(klein, break_one_thing(conditions(klein)))
    assert (broken - theirs).abs().max() > 10 * ROUNDING


def test_the_comparison_sees_a_wrong_guidance_scale(klein: Flux2KleinBackbone, pipeline: Flux2KleinPipeline) -> None:
    mine = generated(klein, [klein.encode_image(tensor(IDENTITY), "identity")], 3.9)
    assert (mine - their_image(pipeline, [IDENTITY], 4.0)).abs().max() > 10 * ROUNDING


def test_the_same_parts_make_a_pipeline(klein: Flux2KleinBackbone) -> None:
    assert isinstance(klein.pipeline(), Flux2KleinPipeline)
    assert klein.pipeline().transformer is klein.transformer
