"""Optimizers by name, the schedule, and what a stage hands over."""

from __future__ import annotations

import copy

import pytest
import torch

from sigma_framework.recipe.training_schema import OptimizerBlock
from sigma_framework.training.optimizers import (
    build_optimizer,
    choose_options,
    chosen_options,
    effective_lr,
    hand_over,
    learning_rate_factor,
)

LEARNING_RATES = {"prodigy": 1.0, "adamw": 1e-2, "muon": 1e-2}


def trained(kind: str) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    """A weight after 30 steps towards 1."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = build_optimizer(OptimizerBlock(type=kind, lr=LEARNING_RATES[kind]), {"weight": weight})
    for _ in range(30):
        optimizer.zero_grad()
        ((weight - 1) ** 2).sum().backward()
        optimizer.step()
    return weight, optimizer


@pytest.mark.parametrize("kind", ["prodigy", "adamw", "muon"])
def test_all_descend(kind: str) -> None:
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


@pytest.mark.parametrize("kind", ["prodigy", "adamw", "muon"])
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


def muon_on(*shapes: tuple[int, ...], **options: object) -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    made = {f"layer{k}.weight": torch.nn.Parameter(torch.randn(s, generator=generator)) for k, s in enumerate(shapes)}
    return made, build_optimizer(OptimizerBlock(type="muon", lr=1e-2, weight_decay=0.0, **options), made)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (8, 3, 2, 2)])
def test_muon_moves_every_direction_of_a_matrix_alike(shape: tuple[int, ...]) -> None:
    """Even where the gradient is all but rank 1; the update is as large as one of AdamW."""
    (weight,), optimizer = (muon := muon_on(shape))[0].values(), muon[1]
    before = weight.detach().clone()
    flat = (shape[0], weight.numel() // shape[0])
    noise = torch.randn(flat, generator=torch.Generator().manual_seed(1))
    gradient = torch.outer(torch.ones(flat[0]), torch.ones(flat[1])) + 5e-2 * noise
    weight.grad = gradient.view(shape)
    optimizer.step()
    values = torch.linalg.svdvals((before - weight.detach()).flatten(1))
    assert float(values.max() / values.min()) < 3, "the gradient's own ratio is above 100"
    assert float((before - weight.detach()).square().mean().sqrt()) == pytest.approx(0.2 * 1e-2, rel=0.35)


def test_muon_leaves_named_matrices_and_vectors_to_adamw() -> None:
    made, optimizer = muon_on((4, 4), (4, 4), (4,), adamw_for=["layer1.*"])
    rules = {id(p): group["rule"] for group in optimizer.param_groups for p in group["params"]}
    assert [rules[id(parameter)] for parameter in made.values()] == ["muon", "adamw", "adamw"]


def test_muon_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    def steps(made: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            for k, parameter in enumerate(made.values()):
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(10 * number + k))
            optimizer.step()

    straight, optimizer = muon_on((4, 6), (5,))
    steps(straight, optimizer, range(3))
    state = copy.deepcopy(optimizer.state_dict())
    resumed, fresh = muon_on((4, 6), (5,))
    with torch.no_grad():
        for name, parameter in resumed.items():
            parameter.copy_(straight[name])
    fresh.load_state_dict(state)
    steps(straight, optimizer, range(3, 6))
    steps(resumed, fresh, range(3, 6))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_smaller_d_coef_makes_the_next_steps_of_prodigy_smaller() -> None:
    """Its d only grows by itself."""
    optimizers = []
    for _ in range(2):
        weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
        made = build_optimizer(OptimizerBlock(d0=1e-5), {"w": weight})
        for _ in range(30):
            made.zero_grad()
            (weight**2).sum().backward()
            made.step()
        optimizers.append((made, weight))
    (plain, before), (changed, after) = optimizers
    choose_options(changed, [{**chosen_options(changed)[0], "d_coef": 0.5}])
    assert effective_lr(changed) == pytest.approx(0.5 * effective_lr(plain))
    choose_options(plain, chosen_options(plain))
    start = before.detach().clone()
    for made, weight in optimizers:
        made.zero_grad()
        (weight**2).sum().backward()
        made.step()
    assert float((after - start).abs().max()) == pytest.approx(0.5 * float((before - start).abs().max()), rel=0.05)


def test_prodigy_in_slices_keeps_less_and_resets_to_as_much() -> None:
    weight = torch.nn.Parameter(torch.ones(40))
    optimizer = build_optimizer(OptimizerBlock(slice_p=11), {"w": weight})
    for how in ("keep", "reset", "carry_d"):
        hand_over(optimizer, how)
        (weight**2).sum().backward()
        optimizer.step()
        state = optimizer.state[weight]
        assert (state["s"].numel(), state["p0"].numel(), state["exp_avg"].numel()) == (4, 4, 40)
