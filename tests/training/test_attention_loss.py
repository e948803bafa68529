"""The loss on where regions look: its value by hand, its gradient in the shipped model, and what it leaves alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from sigma_framework import Example, PluginError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe import check_recipe, load_recipe
from sigma_framework.recipe.build import build_datasources
from sigma_framework.testing import TinyBackbone
from sigma_framework.training.adapter_objective import AdapterObjective
from sigma_framework.training.attention_loss import AttentionLoss
from sigma_framework.training.launch import objective_of

RECIPE = Path(__file__).parents[2] / "recipes" / "train_pocket_adapter.yaml"
BLOCK = 4


class Looking(TinyBackbone):
    """Reports what it is told to: (rows, identities) shares of attention for each layer and head."""

    def __init__(self, shares: list[list[torch.Tensor]]) -> None:
        super().__init__()
        self.shares = shares

    @contextmanager
    def watch_attention(
        self,
        rows: torch.Tensor,
        report: Callable[..., None],
        *,
        layers: Collection[int] | None = None,
        gradients: bool = False,
    ) -> Iterator[None]:
        assert gradients
        yield
        for layer, heads in enumerate(self.shares):
            spread = torch.stack(heads).repeat_interleave(BLOCK, dim=-1) / BLOCK
            report(layer, (spread[None], torch.zeros(1, len(heads), len(rows), 16)))


def halves(side: int = 32) -> np.ndarray:
    """Two regions: the left half and the right half."""
    left = np.arange(side) < side // 2
    return np.stack([np.broadcast_to(left, (side, side)), np.broadcast_to(~left, (side, side))])


def rows_of(backbone: TinyBackbone, region: np.ndarray) -> torch.Tensor:
    return backbone.region_tokens(torch.from_numpy(region).float())[0].mean(dim=-1) > 0


def value_of(own: float, *, other: float, layers: int = 2) -> float:
    """The loss when each token gives ``own`` to its identity and ``other`` to the other one, layer 0 the reverse."""
    regions = halves()
    left = rows_of(TinyBackbone(), regions[0])
    right_way = torch.where(left[:, None], torch.tensor([own, other]), torch.tensor([other, own]))
    wrong_way = right_way.flip(1)
    backbone = Looking([[wrong_way, wrong_way], *[[right_way, right_way]] * (layers - 1)])
    loss = AttentionLoss(backbone, [regions])
    with loss.watching():
        pass
    return float(loss.value())


def test_it_is_the_logarithm_of_the_own_share_and_leaves_the_first_layer_alone() -> None:
    assert value_of(0.3, other=0.1) == pytest.approx(-math.log(0.75), abs=1e-5)
    assert value_of(0.1, other=0.1, layers=4) == pytest.approx(math.log(2), abs=1e-5), "chance"
    assert value_of(0.2, other=0.0) == pytest.approx(0, abs=1e-5)
    assert value_of(0.0, other=0.2) == pytest.approx(-math.log(1e-6), rel=1e-3), "finite where it is all wrong"


def test_heads_may_specialise() -> None:
    """A head that looks at identities alone counts as much as it looks; one that looks at none counts nothing."""
    regions = halves()
    left = rows_of(TinyBackbone(), regions[0])
    finds = torch.where(left[:, None], torch.tensor([0.9, 0.0]), torch.tensor([0.0, 0.9]))
    loss = AttentionLoss(Looking([[finds], [finds * 0, finds]]), [regions])
    with loss.watching():
        pass
    assert float(loss.value()) == pytest.approx(0, abs=1e-5)


def test_blank_conditions_ask_for_nothing() -> None:
    evenly = torch.full((rows_of(TinyBackbone(), halves()[0]).numel(), 2), 0.1)
    loss = AttentionLoss(Looking([[evenly], [evenly]]), [halves() & False])
    with loss.watching():
        pass
    assert float(loss.value()) == 0


def test_a_backbone_that_cannot_tell_is_named() -> None:
    with pytest.raises(PluginError, match=r"train\.attention_loss_weight: TinyBackbone cannot tell"):
        AttentionLoss(TinyBackbone(), [halves()])


def shipped(*overrides: str) -> tuple[AdapterObjective, list[Example]]:
    host = PluginHost.discover()
    recipe = check_recipe(load_recipe(RECIPE, ["train.precision=fp32", "train.lora.rank=8", *overrides]), host)
    objective = objective_of(recipe, host)
    assert isinstance(objective, AdapterObjective)
    (source,) = build_datasources(recipe, host).values()
    found = [source[k] for k in range(12)]
    return objective, [one for one in found if len(one.subjects) == len(found[0].subjects)][:2]


def losses(objective: AdapterObjective, examples: list[Example]) -> torch.Tensor:
    return objective.loss(examples, [torch.Generator().manual_seed(k) for k in range(len(examples))])


def test_it_is_added_while_training_and_never_in_validation() -> None:
    (plain, examples), (told, _) = (
        shipped(f"train.attention_loss_weight={weight}", "train.lora.alpha=8") for weight in (0, 0.5)
    )
    assert (losses(told, examples) > losses(plain, examples)).all()
    with torch.no_grad():
        assert torch.equal(losses(told, examples), losses(plain, examples))


def test_following_it_turns_the_looks_of_the_shipped_base_to_their_own() -> None:
    objective, examples = shipped("train.attention_loss_weight=1000", "train.lora.alpha=8")
    optimizer = torch.optim.Adam(objective.trainable_parameters().values(), lr=3e-3)
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        value = losses(objective, examples).mean()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]


def test_blocks_that_are_computed_twice_are_refused() -> None:
    objective, examples = shipped("train.attention_loss_weight=1", "backbone.gradient_checkpointing=true")
    with pytest.raises(PluginError, match="computed twice"):
        losses(objective, examples)
