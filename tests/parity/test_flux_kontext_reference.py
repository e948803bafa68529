"""``generate`` against the method written out by hand with diffusers' classes and nothing of ours (section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image

from sigma_backbones.flux_kontext import backbone as backbone_module
from sigma_backbones.flux_kontext import position_ids
from sigma_backbones.flux_kontext import tokens as packing
from sigma_framework import Framework

STEPS, SIDE, SEED, GUIDANCE = 4, 32, 11, 2.5
PROMPT = "a grey floor"
CASES = [(1, (64, 64)), (3, (96, 64)), (10, (64, 112))]
"""Subjects, width and height."""


def tokens_of(pipeline: FluxKontextPipeline, latents: torch.Tensor) -> torch.Tensor:
    return pipeline._pack_latents(latents, *latents.shape)


def latents_of(pipeline: FluxKontextPipeline, image: np.ndarray) -> torch.Tensor:
    """Mode of the VAE's distribution of an (h, w, 3) uint8 picture, normalised."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    encoded = pipeline.vae.encode(pixels)
    mode = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return (mode - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor


@torch.no_grad()
def reference(
    pipeline: FluxKontextPipeline,
    spatial: np.ndarray,
    identity: np.ndarray,
    prompt_embeds: torch.Tensor,
    pooled: torch.Tensor,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Final tokens and image of one scene; sequence ``[P, X, I^S, I^C]``, ids as in section 4.1."""
    height, width = spatial.shape[0] // 8, spatial.shape[1] // 8
    x = tokens_of(pipeline, torch.randn(1, 16, height, width, generator=torch.Generator().manual_seed(seed)))
    control, subjects = latents_of(pipeline, spatial), latents_of(pipeline, identity)
    conditions = torch.cat([tokens_of(pipeline, subjects), tokens_of(pipeline, control)], dim=1)
    ids = pipeline._prepare_latent_image_ids
    target_ids = ids(1, height // 2, width // 2, "cpu", torch.float32)
    identity_ids = ids(1, subjects.shape[2] // 2, subjects.shape[3] // 2, "cpu", torch.float32)
    identity_ids[:, 0] = 1
    slope = (1.15 - 0.5) / (4096 - 256)
    mu = slope * x.shape[1] + 0.5 - slope * 256
    pipeline.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), mu=mu)
    guidance = torch.full([1], GUIDANCE) if pipeline.transformer.config.guidance_embeds else None
    for t in pipeline.scheduler.timesteps:
        velocity = pipeline.transformer(
            hidden_states=torch.cat([x, conditions], dim=1),
            timestep=t.expand(1) / 1000,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=prompt_embeds,
            txt_ids=torch.zeros(prompt_embeds.shape[1], 3),
            img_ids=torch.cat([target_ids, identity_ids, target_ids]),
            return_dict=False,
        )[0]
        x = pipeline.scheduler.step(velocity[:, : x.shape[1]], t, x, return_dict=False)[0]
    latents = pipeline._unpack_latents(x, height * 8, width * 8, 8)
    latents = latents / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
    return x, pipeline.vae.decode(latents, return_dict=False)[0]


@pytest.fixture(scope="session")
def guided_folder(kontext_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint with an awake transformer that reads a guidance value, as FLUX.1 Kontext [dev] does."""
    pipeline = FluxKontextPipeline.from_pretrained(kontext_folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        transformer = FluxTransformer2DModel.from_config({**pipeline.transformer.config, "guidance_embeds": True})
        for parameter in transformer.parameters():
            parameter.data.normal_(std=0.1)
    pipeline.transformer = transformer
    folder = tmp_path_factory.mktemp("guided") / kontext_folder.name
    pipeline.save_pretrained(folder)
    return folder


def scene_of(subjects: int, size: tuple[int, int]) -> dict[str, Any]:
    """Boxes of different places that overlap, each with its own picture."""
    rng = np.random.default_rng(subjects)
    columns = math.ceil(math.sqrt(subjects))
    described = []
    for index in range(subjects):
        left, top = (index % columns) * size[0] // columns, (index // columns) * size[1] // columns
        box = [left, top, min(left + size[0] // columns + 6, size[0]), min(top + size[1] // columns + 6, size[1])]
        picture = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        control = {"type": "box2d", "xyxy": box}
        described.append({"name": f"s{index}", "image": picture, "caption": "a cube", "control": control})
    return {"version": 1, "size": list(size), "prompt": PROMPT, "subjects": described}


def compare(folder: Path, subjects: int, size: tuple[int, int]) -> tuple[float, float]:
    """Largest differences of the final tokens and of the 8-bit image between ``generate`` and the reference."""
    framework = Framework.load(
        {
            "task": "generate",
            "backbone": {"type": "flux_kontext", "weights": str(folder), "device": "cpu"},
            "sampler": {"type": "generate", "steps": STEPS, "guidance": GUIDANCE},
            "conditioning": {"identity_size": SIDE},
        }
    )
    seen: list[torch.Tensor] = []
    result = framework.generate(
        scene_of(subjects, size), seed=SEED, callback_on_step_end=lambda _f, _s, _t, kept: seen.append(kept["latents"])
    )
    assert result.controls.identity.shape == (subjects * SIDE, SIDE, 3)
    pipeline = FluxKontextPipeline.from_pretrained(folder)
    embeds, pooled, _ = pipeline.encode_prompt(
        f"Place these subjects in {PROMPT}",
        f"Place these subjects in {PROMPT}",
        max_sequence_length=pipeline.tokenizer_2.model_max_length,
    )
    tokens, image = reference(pipeline, result.controls.spatial, result.controls.identity, embeds, pooled, SEED)
    levels = ((image[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    return (seen[-1] - tokens).abs().max().item(), float(np.abs(np.asarray(result.images[0]) - levels).max())


@pytest.mark.parametrize(("subjects", "size"), CASES)
def test_generate_is_the_method_written_out(kontext_folder: Path, subjects: int, size: tuple[int, int]) -> None:
    tokens, levels = compare(kontext_folder, subjects, size)
    assert tokens <= 1e-5
    assert levels <= 0.51, "half a level of rounding"


def test_with_an_embedded_guidance(guided_folder: Path) -> None:
    tokens, levels = compare(guided_folder, 3, (96, 64))
    assert tokens <= 1e-5
    assert levels <= 0.51


def swapped_ids(patch: pytest.MonkeyPatch) -> None:
    """``I^S`` gets the first coordinate of ``I^C`` and the other way round."""
    patch.setattr(position_ids, "FIRST_COORDINATE", {"target": 0.0, "spatial": 1.0, "identity": 0.0})
    position_ids.image_ids.cache_clear()


def shifted_identity_rows(patch: pytest.MonkeyPatch) -> None:
    intact = position_ids.image_ids.__wrapped__

    def shifted(role: str, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        ids = intact(role, rows, columns, device)
        return ids + torch.tensor([0.0, 1.0, 0.0]) if role == "identity" else ids

    patch.setattr(backbone_module, "image_ids", shifted)


def no_spatial_control(patch: pytest.MonkeyPatch) -> None:
    intact = backbone_module.FluxKontextBackbone.velocity
    patch.setattr(
        backbone_module.FluxKontextBackbone,
        "velocity",
        lambda self, x, t, text, conditions, guidance=None: intact(self, x, t, text, conditions[:1], guidance),
    )


def wrong_scale(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(packing, "normalise", lambda latents, vae: latents * vae.config.scaling_factor)


def another_order_in_a_token(patch: pytest.MonkeyPatch) -> None:
    intact = packing.pack
    patch.setattr(packing, "pack", lambda latents: intact(latents.flip(1)))


def schedule_of_the_whole_sequence(patch: pytest.MonkeyPatch) -> None:
    intact = backbone_module.FluxKontextBackbone.timesteps
    patch.setattr(
        backbone_module.FluxKontextBackbone, "timesteps", lambda self, count, length: intact(self, count, 40 * length)
    )


@pytest.mark.parametrize("kontext_folder", ["kl"], indirect=True)
@pytest.mark.parametrize(
    "damage",
    [
        swapped_ids,
        shifted_identity_rows,
        no_spatial_control,
        wrong_scale,
        another_order_in_a_token,
        schedule_of_the_whole_sequence,
    ],
)
def test_the_comparison_notices_damage(
    kontext_folder: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    position_ids.image_ids.cache_clear()
    damage(monkeypatch)
    tokens, _ = compare(kontext_folder, 2, (64, 64))
    position_ids.image_ids.cache_clear()
    assert tokens > 1e-3
