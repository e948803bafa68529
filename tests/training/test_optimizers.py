"""Optimizers by name, the schedule, and what a stage hands over."""

from __future__ import annotations

import pytest
import torch

from sigma_framework.recipe.schema import OptimizerBlock
from sigma_framework.training.optimizers import build_optimizer, effective_lr, hand_over, learning_rate_factor


def trained(kind: str) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    """A weight after 30 steps towards 1."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = build_optimizer(OptimizerBlock(type=kind, lr=1.0 if kind == "prodigy" else 1e-2), [weight])
    for _ in range(30):
        optimizer.zero_grad()
        ((weight - 1) ** 2).sum().backward()
        optimizer.step()
    return weight, optimizer


@pytest.mark.parametrize("kind", ["prodigy", "adamw"])
def test_both_descend(kind: str) -> None:
    weight, optimizer = trained(kind)
    assert bool((weight.detach() > 0).all())
    assert effective_lr(optimizer) > 0


def test_carry_d_keeps_the_step_size_and_forgets_the_moments() -> None:
    weight, optimizer = trained("prodigy")
    before = effective_lr(optimizer)
    hand_over(optimizer, "carry_d")
    state = optimizer.state[weight]
    assert effective_lr(optimizer) == before
    assert not state["exp_avg"].any()
    assert not state["exp_avg_sq"].any()
    assert state["s"].any()
    assert optimizer.param_groups[0]["k"] == 0


@pytest.mark.parametrize("kind", ["prodigy", "adamw"])
def test_the_first_update_after_carry_d_has_its_usual_size(kind: str) -> None:
    """With empty moments, bias correction must start again, or the first updates are several times too large."""
    weight, optimizer = trained(kind)
    hand_over(optimizer, "carry_d")
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 0.3)
    optimizer.step()
    moved = float((weight.detach() - before).abs().max())
    assert moved == pytest.approx(effective_lr(optimizer), rel=0.2)


def test_keep_changes_nothing_and_reset_forgets_everything() -> None:
    weight, optimizer = trained("prodigy")
    moment = optimizer.state[weight]["exp_avg"].clone()
    hand_over(optimizer, "keep")
    assert torch.equal(optimizer.state[weight]["exp_avg"], moment)
    hand_over(optimizer, "reset")
    assert effective_lr(optimizer) == pytest.approx(optimizer.param_groups[0]["d0"])
    assert torch.equal(optimizer.state[weight]["p0"], weight.detach())
    assert not optimizer.state[weight]["s"].any()


def test_schedules() -> None:
    cosine = OptimizerBlock(type="adamw", lr=1e-3, warmup_steps=10, schedule="cosine")
    factors = [learning_rate_factor(cosine, step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1, rel=0.01)
    assert max(factors) == pytest.approx(1.0, abs=0.03)
    assert factors[100] == pytest.approx(0.0, abs=1e-9)
    assert learning_rate_factor(OptimizerBlock(), 12345, 100) == 1.0
