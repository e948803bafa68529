"""Both loops: the kit's contract, the schedule walked exactly, the photograph kept."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from sigma_framework import PluginError, SigmaError, Tokens
from sigma_framework.testing import SamplerConformance, TinyBackbone, toy_request
from sigma_samplers.blended_insertion import BlendedInsertionSampler
from sigma_samplers.config import AdapterGuidance, BlendedInsertionConfig, GenerateConfig
from sigma_samplers.euler import OFF, euler_step, predict_velocity
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
        return predict_velocity(backbone, x, 0.5, replace(request, **changes))

    plain = velocity()
    away = velocity(text=negative)
    assert torch.allclose(velocity(negative_text=negative, true_cfg=3.0), away + 3 * (plain - away), atol=1e-6)
    assert torch.equal(velocity(negative_text=negative, true_cfg=1.0), plain)


def backbone_with_adapter() -> TinyBackbone:
    backbone = TinyBackbone()
    backbone.add_adapter("main", 2, 2.0, None, 0)
    generator = torch.Generator().manual_seed(3)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return backbone


def test_guidance_moves_away_from_weaker_adapters_until_its_time() -> None:
    backbone = backbone_with_adapter()
    request = toy_request(backbone, (5,))
    x = backbone.noise(request.size_hw, [torch.Generator().manual_seed(5)])

    def velocity(t: float, guidance: AdapterGuidance = OFF, **changes: Any) -> torch.Tensor:
        return predict_velocity(backbone, x, t, replace(request, **changes), guidance)

    guidance = AdapterGuidance(scale=3.0, weak=0.25, until=0.5)
    for t in (0.9, 0.5):
        with backbone.dim_adapters(0.25):
            weak = velocity(t)
        strong = velocity(t)
        assert not torch.allclose(strong, weak, atol=1e-3)
        assert torch.allclose(velocity(t, guidance), weak + 3 * (strong - weak), atol=1e-5)
        negative = {"negative_text": backbone.encode_prompt(["else"]), "true_cfg": 2.0}
        expected = velocity(t, **negative) + 2 * (strong - weak)
        assert torch.allclose(velocity(t, guidance, **negative), expected, atol=1e-5), "both kinds add up"
    assert torch.equal(velocity(0.49, guidance), velocity(0.49)), "it has ended"
    assert torch.equal(velocity(0.9, AdapterGuidance()), velocity(0.9)), "it is off unless asked for"


@pytest.mark.parametrize(("made", "background"), [(GenerateSampler, False), (BlendedInsertionSampler, True)])
def test_both_loops_are_guided(made: Any, background: bool) -> None:
    backbone = backbone_with_adapter()
    config = (BlendedInsertionConfig if background else GenerateConfig)(adapter_guidance=AdapterGuidance(scale=2.0))

    def picture(options: Any) -> torch.Tensor:
        return made(options).sample(backbone, toy_request(backbone, (5,), background=background))

    assert not torch.allclose(picture(config), picture(type(config)()), atol=1e-3)


def test_a_backbone_that_cannot_weaken_its_adapters_is_told() -> None:
    class Plain(TinyBackbone):
        dim_adapters = None  # type: ignore[assignment]  # as if it had none

    backbone = Plain()
    sampler = GenerateSampler(GenerateConfig(adapter_guidance=AdapterGuidance(scale=2.0)))
    with pytest.raises(PluginError, match=r"Plain cannot weaken its adapters.*scale=1"):
        sampler.sample(backbone, toy_request(backbone, (5,)))


def test_wrong_guidance_is_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"scale must.*0\.5; weak must.*1\.0; until must.*-1"):
        AdapterGuidance(scale=0.5, weak=1.0, until=-1)


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
