"""Latents that the adapter's objective keeps: the same losses, fewer encodings, never more than it may keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sigma_framework import Example, TextTokens, Tokens
from sigma_framework.plugin_host import PluginHost
from sigma_framework.testing import TinyBackbone, ToySource
from sigma_framework.training.adapter_objective import AdapterObjective, AdapterOptions, Granularity
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.types import Role

PAIR = [ToySource(length=60)[int(i)] for i in (ToySource(length=60).subject_counts == 2).nonzero()[0][:3]]


def keeping(keep_latents: int, condition_dropout: float = 0.0) -> AdapterObjective:
    host = PluginHost.discover()
    box, sampler = host.resolve("control", "box2d"), host.resolve("sampler", "generate")
    options = AdapterOptions(
        identity_size=32, channel_dropout=0.1, full_prompt_share=0.5, text_dropout=0.0,
        condition_dropout=condition_dropout, guidance=None, timesteps="logit_normal", subject_loss_weight=0.0,
        rank=4, alpha=4.0, targets=None, picture_steps=2, keep_latents=keep_latents,
    )  # fmt: skip
    controls = {"box2d": host.make(box, box.spec.config())}
    granularities = [Granularity(name="boxes", controls=("box2d",), weight=1.0)]
    made = host.make(sampler, sampler.spec.config())
    return AdapterObjective(TinyBackbone(), controls, granularities, made, options, seed=1)


def losses(objective: AdapterObjective, examples: Sequence[Example]) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(examples))]
    return objective.loss(examples, generators).detach()


def count_encoded(objective: AdapterObjective, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The role of every picture that is encoded from now on."""
    roles: list[str] = []
    encode = objective.backbone.encode_image

    def counted(images: torch.Tensor, role: str) -> object:
        roles.extend([role] * len(images))
        return encode(images, role)

    monkeypatch.setattr(objective.backbone, "encode_image", counted)
    return roles


def test_kept_latents_change_no_loss_and_save_encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keeping(100)
    roles = count_encoded(kept, monkeypatch)
    first = losses(kept, PAIR[:2])
    assert sorted(roles) == ["identity"] * 2 + ["spatial"] * 2 + ["target"] * 2
    roles.clear()
    again, wider = losses(kept, PAIR[:2]), losses(kept, PAIR)
    assert sorted(roles) == ["identity", *["spatial"] * 5, "target"], "only the third example is new"
    assert torch.equal(first, again)
    assert torch.allclose(wider, losses(keeping(0), PAIR), atol=1e-6)


def test_no_more_is_kept_than_allowed() -> None:
    limited = keeping(3)
    losses(limited, PAIR)
    assert len(limited._kept) == 3


def test_blank_conditions_are_never_kept() -> None:
    """With condition dropout an identity image may be white, so it is encoded every time."""
    dropping = keeping(100, condition_dropout=0.5)
    losses(dropping, PAIR)
    assert {role for _, role in dropping._kept} == {"target"}


def test_kept_latents_do_not_tell_what_else_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run's memory is empty. A real encoder's last bits depend on the batch, the tiny one is made to."""
    plain = TinyBackbone.encode_image

    def encode_image(self: TinyBackbone, images: torch.Tensor, role: Role) -> Tokens:
        tokens = plain(self, images, role)
        return Tokens(values=tokens.values * (1 + 0.01 * len(images)), ids=tokens.ids)

    monkeypatch.setattr(TinyBackbone, "encode_image", encode_image)
    kept, resumed = keeping(100), keeping(100)
    losses(kept, PAIR[:2])
    assert torch.equal(losses(kept, PAIR), losses(resumed, PAIR))


def test_with_everything_cached_the_text_encoders_are_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = keeping(0)
    objective.cache = EncodingCache(tmp_path, objective.backbone, 10**9)
    first = losses(objective, PAIR)

    def called(prompts: Sequence[str]) -> TextTokens:
        raise AssertionError(f"encoded again: {prompts}")

    roles = count_encoded(objective, monkeypatch)
    monkeypatch.setattr(objective.backbone, "encode_prompt", called)
    assert torch.equal(losses(objective, PAIR), first)
    assert set(roles) == {"spatial"}, "I^C alone"
