"""Blocks computed twice: the gradients stay, short sequences need fewer of them, and memory is what the plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.explain import explain
from sigma_backbones.flux_kontext.memory_estimate import BACKWARD_KEPT, kept_numbers
from sigma_backbones.planned_blocks import planned_blocks
from sigma_framework import TextTokens, Tokens

DOUBLE, SINGLE = 19, 38
"""FLUX.1's blocks."""


def test_the_plan_is_the_fewest_blocks_that_fit() -> None:
    kept = BACKWARD_KEPT[2]
    everything = kept.outside + kept.double * DOUBLE + kept.single * SINGLE
    assert kept_numbers(0, DOUBLE, SINGLE, 2) == everything
    assert kept_numbers(DOUBLE + SINGLE, DOUBLE, SINGLE, 2) == kept.checkpointed + DOUBLE + SINGLE
    assert planned_blocks(everything, DOUBLE, SINGLE, 2, kept_numbers) == 0
    assert planned_blocks(1.0, DOUBLE, SINGLE, 2, kept_numbers) == DOUBLE + SINGLE
    before = 0
    for numbers in range(int(everything), 110, -7):
        twice = planned_blocks(numbers, DOUBLE, SINGLE, 2, kept_numbers)
        assert twice >= before
        assert kept_numbers(twice, DOUBLE, SINGLE, 2) <= numbers
        assert twice == 0 or min(kept_numbers(n, DOUBLE, SINGLE, 2) for n in range(twice)) > numbers
        before = twice


def gradients(backbone: FluxKontextBackbone, tokens: int, subjects: int) -> dict[str, torch.Tensor]:
    """Of the adapter, on a target of ``tokens`` tokens and ``subjects`` blocks of as many."""
    generator = torch.Generator().manual_seed(3)
    width = backbone.transformer.config

    def drawn(count: int, row: int) -> Tokens:
        ids = torch.stack([torch.full((count,), row), torch.arange(count), torch.arange(count)], dim=-1).float()
        return Tokens(values=torch.randn(1, count, width.in_channels, generator=generator), ids=ids)

    text = TextTokens(
        values=torch.randn(1, 8, width.joint_attention_dim, generator=generator),
        ids=torch.zeros(8, 3),
        pooled=torch.randn(1, width.pooled_projection_dim, generator=generator),
    )
    x, conditions = drawn(tokens, 0), [drawn(tokens * subjects, 1), drawn(tokens, 0)]
    parameters = backbone.trainable_parameters()
    loss = backbone.velocity(x, torch.tensor([0.4]), text, conditions, 1.0).square().mean()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def test_gradients_stay_the_same_and_short_sequences_need_fewer(make_backbone: Any) -> None:
    backbone = make_backbone(gradient_checkpointing=True)
    backbone.add_adapter("main", 2, 2.0, None, seed=0)
    with torch.no_grad():
        for parameter in backbone.trainable_parameters().values():
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(parameter)))
    checkpointing = backbone.checkpointing
    assert checkpointing is not None
    blocks = checkpointing.double + checkpointing.single
    calls: list[int] = []
    for block in (*backbone.transformer.transformer_blocks, *backbone.transformer.single_transformer_blocks):
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    found = {}
    for twice in range(blocks + 1):
        checkpointing.twice = twice
        calls.clear()
        found[twice] = gradients(backbone, 4, 2)
        assert len(calls) == blocks + twice
    assert any(value.abs().max() > 0 for value in found[0].values())
    for other in found.values():
        assert all(torch.equal(other[name], value) for name, value in found[0].items())

    tokens = {subjects: 8 + 4 * (2 + subjects) for subjects in (1, 40)}
    checkpointing.twice = blocks
    checkpointing.activation_bytes = checkpointing.kept_bytes(1, tokens[40], 4)
    for subjects, expected in ((1, 0), (40, blocks - 1)):  # the last of them would save less than its second pass holds
        gradients(backbone, 4, subjects)
        assert checkpointing.twice == expected
        assert checkpointing.kept_bytes(1, tokens[subjects], 4) <= checkpointing.activation_bytes


def test_explain_tells_the_planned_memory() -> None:
    facts = {"size_hw": (1024, 1024), "identity_size": 512, "rank": 128, "batch_size": 1, "task": "train"}
    config = FluxKontextConfig(weights=FULL_SCALE, gradient_checkpointing=True, activation_gb=40.0)

    def activations(subjects: int, config: FluxKontextConfig) -> int:
        return int(explain(config, {**facts, "subjects": subjects})["memory_bytes"]["activations"])

    for subjects in (1, 10):
        planned, least = (activations(subjects, one) for one in (config, replace(config, activation_gb=None)))
        assert least < planned <= 40e9
        assert planned > 35e9


def test_a_budget_without_checkpointing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected more than 0, and gradient_checkpointing: true"):
        FluxKontextConfig(activation_gb=40.0)
