"""Both loops: the kit's contract, the schedule walked exactly, the photograph kept."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from sigma_framework import SigmaError, Tokens
from sigma_framework.testing import SamplerConformance, TinyBackbone, toy_request
from sigma_samplers.blended_insertion import BlendedInsertionSampler
from sigma_samplers.config import BlendedInsertionConfig, GenerateConfig
from sigma_samplers.euler import euler_step, predict_velocity
from sigma_samplers.generate import GenerateSampler
from sigma_samplers.plugin import sigma_register_samplers

GENERATE, BLENDED, *_ = sigma_register_samplers()


class TestGenerate(SamplerConformance):
    spec = GENERATE


class TestBlendedInsertion(SamplerConformance):
    spec = BLENDED


def test_generate_walks_the_schedule_once() -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (5,), steps=4)
    x = backbone.noise(request.size_hw, [torch.Generator().manual_seed(5)])
    times = backbone.timesteps(4, x.length).tolist()
    values = x.values
    with torch.no_grad():
        for t, t_next in itertools.pairwise(times):
            v = backbone.velocity(Tokens(values=values, ids=x.ids), torch.tensor([t]), request.text, request.conditions)
            values = values + (t_next - t) * v
        by_hand = backbone.decode(values, request.size_hw)
    assert torch.allclose(GenerateSampler(GenerateConfig()).sample(backbone, request), by_hand, atol=1e-6)


def test_a_perfect_velocity_lands_on_the_image() -> None:
    image, noise = torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    values = noise
    for t, t_next in ((1.0, 0.7), (0.7, 0.2), (0.2, 0.0)):
        values = euler_step(values, noise - image, t, t_next)
    assert torch.allclose(values, image, atol=1e-5)


def test_guidance_moves_away_from_the_negative_prompt() -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (5,))
    negative = backbone.encode_prompt(["something else"])
    x = backbone.noise(request.size_hw, [torch.Generator().manual_seed(5)])

    def velocity(**changes: Any) -> torch.Tensor:
        from dataclasses import replace

        return predict_velocity(backbone, x, 0.5, replace(request, **changes))

    plain = velocity()
    away = velocity(text=negative)
    assert torch.allclose(velocity(negative_text=negative, true_cfg=3.0), away + 3 * (plain - away), atol=1e-6)
    assert torch.equal(velocity(negative_text=negative, true_cfg=1.0), plain)


def test_outside_the_region_latents_are_the_photograph_noised_at_every_step() -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (7,), steps=4, background=True)
    noise = backbone.noise(request.size_hw, [torch.Generator().manual_seed(7)]).values
    clean = backbone.encode_image(request.background, "target").values
    outside = backbone.region_tokens(request.region).expand_as(noise) == 0
    times = backbone.timesteps(4, noise.shape[1]).tolist()
    seen = []

    def watch(step: int, t: float, tensors: dict[str, torch.Tensor]) -> None:
        expected = (1 - t) * clean + t * noise
        assert t == pytest.approx(times[step + 1])
        assert torch.allclose(tensors["latents"][outside], expected[outside], atol=1e-6)
        assert not torch.allclose(tensors["latents"][~outside], expected[~outside], atol=1e-3)
        seen.append(step)

    BlendedInsertionSampler(BlendedInsertionConfig()).sample(backbone, request, watch)
    assert seen == [0, 1, 2, 3]
    assert outside.any()


def test_a_later_start_runs_fewer_steps() -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (7,), steps=4, background=True)
    seen: list[int] = []
    sampler = BlendedInsertionSampler(BlendedInsertionConfig(start=0.5))
    sampler.sample(backbone, request, lambda step, t, tensors: seen.append(step))
    assert seen == [0, 1]


def test_insertion_without_a_photograph_says_so() -> None:
    backbone = TinyBackbone()
    with pytest.raises(SigmaError, match="needs a background"):
        BlendedInsertionSampler(BlendedInsertionConfig()).sample(backbone, toy_request(backbone))
