"""Correspondence maps: what is averaged, what is written, and that the probabilities are the model's own."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sigma_framework import Framework, PluginError, RunError
from sigma_framework.framework import Framework as Loaded
from sigma_framework.generation import condition_scene
from sigma_framework.inspection import Inspection, correspond, run_inspection
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe.build import build_control, control_specs
from sigma_framework.recipe.schema import InspectBlock
from sigma_framework.scene import ResolvedScene
from sigma_framework.testing import toy_result, toy_scene

RECIPE = Path(__file__).parents[1] / "recipes" / "correspondence.yaml"
LAYERS, HEADS, STEPS, BLOCK = 3, 2, 2, 4


class Oracle:
    """A backbone whose tokens of the left half look at the first identity, the others at the second.

    Layer 2, head 1 and step 1 each look the wrong way round.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self._watch: tuple[torch.Tensor, Callable[..., None]] | None = None

    def region_tokens(self, region: torch.Tensor) -> torch.Tensor:
        tokens = torch.nn.functional.max_pool2d(region[None, None], 16).flatten()
        return tokens[None, :, None].expand(1, -1, 4)

    @contextmanager
    def watch_attention(self, rows: torch.Tensor, report: Callable[..., None]) -> Iterator[None]:
        self._watch = (rows, report)
        yield
        self._watch = None

    def step(self, step: int, width: int) -> None:
        assert self._watch is not None
        rows, report = self._watch
        left = rows % width < width // 2
        for layer in range(LAYERS):
            chances = torch.zeros(1, HEADS, len(rows), 2 * BLOCK)
            for head in range(HEADS):
                wrong = layer == 2 or head == 1 or step == 1
                chances[0, head, left != wrong, :BLOCK] = 0.1
                chances[0, head, left == wrong, BLOCK:] = 0.1
            report(layer, (chances, torch.zeros(1, HEADS, len(rows), 16)))


def maker_of(backbone: Any) -> Any:
    """Makes a flat image in ``STEPS`` steps."""
    recipe = Framework.load(RECIPE).recipe

    def make(scene: ResolvedScene, seeds: list[int], on_step: Callable[..., None]) -> Any:
        for step in range(STEPS):
            backbone.step(step, scene.canvas.width // 16)
            on_step(step, 0.0, {})
        return toy_result([np.full((64, 64, 3), 90, np.uint8)], scene.scene)

    controls = {"box2d": build_control(recipe, PluginHost.discover(), "box2d")}
    return SimpleNamespace(
        backbone=backbone, make=make, condition=lambda resolved: condition_scene(resolved, controls, 32, 1.3)
    )


@pytest.fixture(scope="module")
def scene() -> ResolvedScene:
    recipe = Framework.load(RECIPE).recipe
    return toy_scene(2, size=(64, 64)).resolve(control_specs(recipe, PluginHost.discover()), 16)


def test_chosen_steps_layers_and_heads_are_averaged(scene: ResolvedScene) -> None:
    right = InspectBlock(steps=(0,), layers=(0, 1), heads=(0,))
    found = correspond(maker_of(Oracle()), scene, right, 0)
    assert found.mass.shape == (2, 2, 2, 2)
    assert found.shares == pytest.approx(np.eye(2))
    for wrong in ({"steps": (1,)}, {"layers": (2,)}, {"heads": (1,)}):
        options = InspectBlock(**{"steps": (0,), "layers": (0, 1), "heads": (0,), **wrong})
        assert correspond(maker_of(Oracle()), scene, options, 0).shares == pytest.approx(1 - np.eye(2))
    # Of 2 * 3 * 2 looks, step 0 with layers 0 and 1 and head 0 are the two right ones.
    assert correspond(maker_of(Oracle()), scene, InspectBlock(), 0).shares[0, 0] == pytest.approx(2 / 12)


def test_files_say_the_shares(tmp_path: Path, scene: ResolvedScene) -> None:
    work = Inspection(maker=maker_of(Oracle()), scenes=[scene, scene], options=InspectBlock(steps=(0,)), seed=0)
    means = run_inspection(work, tmp_path, Silent())
    assert means == {"own_share": pytest.approx(1 / 3), "chance": 0.5}
    with (tmp_path / "correspondence.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["region"] for row in rows} == {"ball1", "ball2"}
    assert sum(float(row["share"]) for row in rows if row["own"] == "1") / 4 == pytest.approx(1 / 3, abs=1e-4)
    assert (tmp_path / "correspondence.png").exists()
    assert (tmp_path / "images" / "0001.png").exists()


def test_what_is_not_there_is_told(scene: ResolvedScene) -> None:
    with pytest.raises(RunError, match="no such step, layer or head"):
        correspond(maker_of(Oracle()), scene, InspectBlock(layers=(7,)), 0)
    blind = SimpleNamespace(device=torch.device("cpu"))
    with pytest.raises(PluginError, match="cannot tell where tokens look"):
        correspond(maker_of(blind), scene, InspectBlock(), 0)


@pytest.fixture(scope="module")
def pocket() -> Loaded:
    return Framework.load(RECIPE, ["sampler.steps=2", "inspect.scenes=1", "inspect.subjects=2"])


@pytest.mark.slow
def test_probabilities_are_those_of_the_queries_and_keys_that_diffusers_uses(
    pocket: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models.transformers import transformer_flux

    from sigma_framework.testing import toy_request

    backbone, used, told = pocket.backbone, [], []
    real = transformer_flux.dispatch_attention_fn

    def spy(query: torch.Tensor, key: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        used.append((query.float(), key.float()))
        return real(query, key, *rest, **more)

    monkeypatch.setattr(transformer_flux, "dispatch_attention_fn", spy)
    request = toy_request(backbone, size_hw=(96, 96))
    x, t = backbone.noise(request.size_hw, request.generators), torch.tensor([0.7])
    before = backbone.velocity(x, t, request.text, request.conditions)
    used.clear()
    rows = torch.tensor([0, 7, 20])
    with backbone.watch_attention(rows, lambda layer, chances: told.append((layer, chances))):
        during = backbone.velocity(x, t, request.text, request.conditions)
    assert torch.equal(before, during)
    after = len(told)
    backbone.velocity(x, t, request.text, request.conditions)
    assert len(told) == after == len(used) // 2
    assert [layer for layer, _ in told] == list(range(after))
    text = request.text.values.shape[1]
    lengths = [tokens.length for tokens in request.conditions]
    for (query, key), (_, chances) in zip(used, told, strict=False):
        scores = torch.einsum("brhd,bkhd->bhrk", query[:, rows + text], key) / query.shape[-1] ** 0.5
        expected = scores.softmax(-1)[..., text + x.length :].split(lengths, dim=-1)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(chances, expected, strict=True))


@pytest.mark.slow
def test_the_shipped_model_is_inspected_by_one_command(pocket: Loaded, tmp_path: Path) -> None:
    pocket.run_folder = tmp_path / "run"
    lines = pocket.run()
    shares = dict(line.split(": ") for line in lines[:2])
    assert 0 < float(shares["own_share"]) < 1
    assert float(shares["chance"]) == 0.5
    with (tmp_path / "run" / "correspondence.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert sum(float(row["share"]) for row in rows if row["region"] == "subject1") == pytest.approx(1, abs=1e-4)
