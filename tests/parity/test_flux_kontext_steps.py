"""The denoising loop does no needless work: ids, rotary embedding and conditions once, no velocity of conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig

from sigma_backbones.flux_kontext import backbone as backbone_module
from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import PluginError, SampleRequest, Tokens
from sigma_samplers.config import AdapterGuidance, GenerateConfig
from sigma_samplers.generate import GenerateSampler

STEPS = 5


def seeded(seed: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed)]


def request(backbone: FluxKontextBackbone, *, true_cfg: float = 1.0, height: int = 32) -> SampleRequest:
    drawn = torch.rand(2, 3, height, 64, generator=seeded(3)[0]) * 2 - 1
    return SampleRequest(
        text=backbone.encode_prompt(["a red cube"]),
        negative_text=backbone.encode_prompt(["blurred"]) if true_cfg != 1 else None,
        conditions=(backbone.encode_image(drawn[:1], "identity"), backbone.encode_image(drawn[1:], "spatial")),
        size_hw=(height, 64),
        steps=STEPS,
        true_cfg=true_cfg,
        generators=tuple(seeded(0)),
    )


def sampled(backbone: FluxKontextBackbone, given: SampleRequest) -> torch.Tensor:
    """With a generator of its own, so that equal requests give equal images."""
    return GenerateSampler(GenerateConfig()).sample(backbone, replace(given, generators=tuple(seeded(0))))


@contextmanager
def counted(backbone: FluxKontextBackbone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Calls of the rotary embedding, of the ids' concatenation, of the transformer; rows of its last projection."""
    seen: Counter[str] = Counter()
    transformer = backbone.transformer
    joined = backbone_module.joined_ids

    def count_rows(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        seen["rows"] = max(seen["rows"], arguments[0].shape[1])

    def joining(*given: Any) -> torch.Tensor:
        seen["ids"] += 1
        return joined(*given)

    hooks = [
        transformer.pos_embed.computed.register_forward_pre_hook(lambda *_: seen.update(["rope"])),
        transformer.proj_out.register_forward_pre_hook(count_rows),
        transformer.register_forward_pre_hook(lambda *_: seen.update(["transformer"])),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(backbone_module, "joined_ids", joining)
        yield seen
    for hook in hooks:
        hook.remove()


def test_ids_and_rope_are_built_once_per_call(backbone: FluxKontextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(backbone, monkeypatch) as seen:
        sampled(backbone, request(backbone))
    assert seen == {"transformer": STEPS, "rope": 1, "ids": 1, "rows": 8}
    with counted(backbone, monkeypatch) as seen:
        sampled(backbone, request(backbone, true_cfg=2.0, height=48))
    assert seen == {"transformer": 2 * STEPS, "rope": 1, "ids": 2, "rows": 12}, "both texts share the embedding"


def test_nothing_stale_is_used(backbone: FluxKontextBackbone) -> None:
    first = request(backbone)
    made = sampled(backbone, first)
    first.conditions[1].values.mul_(-1)
    changed = sampled(backbone, first)
    assert (changed - made).abs().max() > 1e-4, "a tensor that was written to counts as another one"
    first.conditions[1].values.mul_(-1)
    assert torch.equal(sampled(backbone, first), made)
    assert not torch.equal(sampled(backbone, request(backbone, height=48))[..., :32, :], made)


def test_another_caller_of_the_transformer_gets_every_row(backbone: FluxKontextBackbone) -> None:
    given = request(backbone)
    x = backbone.noise((32, 64), seeded(0))
    sequence = [x, *given.conditions]
    arguments: dict[str, Any] = {
        "hidden_states": torch.cat([one.values for one in sequence], dim=1),
        "timestep": torch.tensor([0.5]),
        "pooled_projections": given.text.pooled,
        "encoder_hidden_states": given.text.values,
        "txt_ids": given.text.ids,
        "return_dict": False,
    }
    with torch.no_grad():
        mine = backbone.velocity(x, torch.tensor([0.5]), given.text, given.conditions)
        whole = backbone.transformer(**arguments, img_ids=torch.cat([one.ids for one in sequence]))[0]
        elsewhere = backbone.transformer(**arguments, img_ids=torch.cat([one.ids + 3 for one in sequence]))[0]
    assert whole.shape[1] == sum(one.length for one in sequence)
    assert torch.allclose(mine, whole[:, : x.length], atol=1e-6)
    assert not torch.allclose(elsewhere, whole, atol=1e-4), "their ids are computed, never taken from ours"


def test_gradients_are_those_of_the_whole_sequence(backbone: FluxKontextBackbone) -> None:
    given = request(backbone)
    x = backbone.noise((32, 64), seeded(0))
    backbone.add_adapter("main", 2, 2.0, None, 0)
    plan = backbone._plan
    parameters = list(backbone.trainable_parameters().values())
    for parameter in parameters:
        parameter.data.normal_(std=0.1, generator=seeded(1)[0])

    def gradients() -> tuple[torch.Tensor, ...]:
        loss = backbone.velocity(x, torch.tensor([0.5]), given.text, given.conditions).square().sum()
        return torch.autograd.grad(loss, parameters)

    skipped = gradients()
    step, plan.step = plan.step, lambda transformer, names, rows: step(transformer, names, 10_000)  # type: ignore[method-assign]
    for one, other in zip(skipped, gradients(), strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_an_attention_processor_of_the_user_is_used(backbone: FluxKontextBackbone) -> None:
    given, calls = request(backbone), Counter[str]()
    before = sampled(backbone, given)
    processor = type(next(iter(backbone.transformer.attn_processors.values())))

    class Counting(processor):  # type: ignore[misc, valid-type]
        def __call__(self, *arguments: Any, **named: Any) -> Any:
            calls.update(["attention"])
            return super().__call__(*arguments, **named)

    backbone.transformer.set_attn_processor(Counting())
    after = sampled(backbone, given)
    assert calls["attention"] == STEPS * len(backbone.transformer.attn_processors)
    assert torch.equal(before, after)


def test_a_step_cache_of_diffusers_is_used(backbone: FluxKontextBackbone) -> None:
    given, calls, transformer = request(backbone, true_cfg=2.0), Counter[str](), backbone.transformer
    before = sampled(backbone, given)
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    assert torch.equal(sampled(backbone, given), before), "nothing is near enough to be used again"
    transformer.disable_cache()
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    transformer.single_transformer_blocks[-1].attn.register_forward_pre_hook(lambda *_: calls.update(["last"]))
    after = sampled(backbone, given)
    assert calls["last"] == 2, "the first step alone, apart for both texts"
    assert not torch.equal(after, before)
    assert torch.equal(sampled(backbone, given), after)
    assert calls["last"] == 4, "another loop begins anew"
    x, t = backbone.noise((32, 64), seeded(0)), torch.tensor([0.5])
    with pytest.raises(PluginError, match=r"call transformer\.disable_cache\(\) before training"):
        backbone.velocity(x, t, given.text, given.conditions)
    transformer.disable_cache()
    assert torch.equal(sampled(backbone, given), before)


def test_a_step_cache_keeps_weaker_adapters_apart(backbone: FluxKontextBackbone) -> None:
    backbone.add_adapter("main", 2, 2.0, None, 0)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=seeded(1)[0]) * 0.2
    sampler = GenerateSampler(GenerateConfig(adapter_guidance=AdapterGuidance(scale=2.0, weak=0.0, until=0.0)))
    given, calls, transformer = request(backbone), Counter[str](), backbone.transformer
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    transformer.single_transformer_blocks[-1].attn.register_forward_pre_hook(lambda *_: calls.update(["last"]))
    sampler.sample(backbone, given)
    assert calls["last"] == 2, "the first step alone, apart for both strengths"


def test_passes_with_weaker_adapters_are_not_watched(backbone: FluxKontextBackbone) -> None:
    sampler = GenerateSampler(GenerateConfig(adapter_guidance=AdapterGuidance(scale=2.0, until=0.0)))
    seen: list[int] = []
    with backbone.watch_attention(torch.tensor([0]), lambda layer, _: seen.append(layer)):
        sampler.sample(backbone, request(backbone))
    assert len(seen) == STEPS * len(backbone.transformer.attn_processors)


def test_tokens_of_other_ids_are_not_mixed_up(backbone: FluxKontextBackbone) -> None:
    given, x = request(backbone), backbone.noise((32, 64), seeded(0))
    moved = Tokens(values=given.conditions[0].values, ids=given.conditions[0].ids + 5)
    with torch.no_grad():
        one = backbone.velocity(x, torch.tensor([0.5]), given.text, given.conditions)
        other = backbone.velocity(x, torch.tensor([0.5]), given.text, (moved, given.conditions[1]))
    assert not torch.allclose(one, other, atol=1e-5)
