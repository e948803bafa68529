"""The core's objective trains an adapter on this base, and a recipe takes the whole road with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image

from sigma_backbones.flux2_klein.backbone import Flux2KleinBackbone
from sigma_controls.box2d import Box2DControl
from sigma_framework import Example, Framework
from sigma_framework.training.adapter_objective import ADAPTER, AdapterObjective, AdapterOptions, Granularity
from sigma_samplers.config import GenerateConfig
from sigma_samplers.generate import GenerateSampler

ROOT = Path(__file__).parents[4]
OPTIONS = AdapterOptions(
    identity_size=32, channel_dropout=0.1, full_prompt_share=0.5, text_dropout=0.1, condition_dropout=0.0,
    guidance=None, timesteps="logit_normal", subject_loss_weight=0.0, rank=2, alpha=2.0, targets=None,
    picture_steps=2, true_cfg=4.0,
)  # fmt: skip


@pytest.fixture
def objective(klein: Flux2KleinBackbone) -> AdapterObjective:
    granularities = [Granularity(name="boxes2d", controls=("box2d",), weight=1.0)]
    sampler = GenerateSampler(GenerateConfig())
    return AdapterObjective(klein, {"box2d": Box2DControl()}, granularities, sampler, OPTIONS, seed=0)


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_a_training_step_changes_the_adapter_alone(objective: AdapterObjective, examples: tuple[Example, ...]) -> None:
    trainable = objective.trainable_parameters()
    held = {id(parameter) for parameter in trainable.values()}
    base = [p for module in objective.modules() for p in module.parameters() if id(p) not in held]
    before = [parameter.clone() for parameter in base]
    optimizer = torch.optim.Adam(trainable.values(), lr=0.02)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = objective.loss(examples[:2], seeded(2)).mean()
        loss.backward()
        losses.append(loss.item())
        assert all(parameter.grad is None for parameter in base)
        optimizer.step()
    assert all(bool(p.grad.any()) for name, p in trainable.items() if "lora_B" in name and p.grad is not None)
    assert {name for name, p in trainable.items() if p.grad is None} == set(), "a layer of the default list is idle"
    assert losses[-1] < 0.98 * losses[0]
    assert all(torch.equal(old, new) for old, new in zip(before, base, strict=True))


def test_checkpointing_gives_the_same_gradient(
    make_klein: Callable[..., Flux2KleinBackbone], examples: tuple[Example, ...]
) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = make_klein(gradient_checkpointing=checkpointing)
        granularities = [Granularity(name="boxes2d", controls=("box2d",), weight=1.0)]
        sampler = GenerateSampler(GenerateConfig())
        objective = AdapterObjective(backbone, {"box2d": Box2DControl()}, granularities, sampler, OPTIONS, seed=0)
        objective.loss(examples[:1], seeded(1)).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in objective.trainable_parameters().values()]))
    assert gradients[0].any()
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_short_sequences_compute_fewer_blocks_twice_and_learn_the_same(
    make_klein: Callable[..., Flux2KleinBackbone], examples: tuple[Example, ...]
) -> None:
    found, planned = {}, {}
    for memory in (None, 1.0, 1e-9):
        backbone = make_klein(gradient_checkpointing=True, activation_gb=memory)
        objective = AdapterObjective(
            backbone,
            {"box2d": Box2DControl()},
            [Granularity(name="boxes2d", controls=("box2d",), weight=1.0)],
            GenerateSampler(GenerateConfig()),
            OPTIONS,
            seed=0,
        )
        objective.loss(examples[:1], seeded(1)).mean().backward()
        found[memory] = torch.cat([p.grad.flatten() for p in objective.trainable_parameters().values()])
        planned[memory] = backbone.checkpointing.twice
    blocks = backbone.checkpointing.double + backbone.checkpointing.single
    assert planned == {None: blocks, 1.0: 0, 1e-9: blocks}
    assert all(torch.allclose(found[None], other, atol=1e-6) for other in found.values())


def test_pictures_and_the_saved_file(
    objective: AdapterObjective, example: Example, pipeline: Flux2KleinPipeline, tmp_path: Path
) -> None:
    ((*_, result, target),) = objective.pictures([example], seed=0)
    assert result.shape == target.shape
    assert np.ptp(result) > 0
    for parameter in objective.trainable_parameters().values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    objective.save(tmp_path)
    pipeline.load_lora_weights(tmp_path, adapter_name=ADAPTER)
    assert pipeline.get_list_adapters() == {"transformer": [ADAPTER]}


def test_the_recipe_trains_generates_and_inserts(
    klein_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``curriculum_klein.yaml`` with tiny weights and numbers, then its adapter in both samplers."""
    monkeypatch.chdir(tmp_path)
    base = [f"backbone.weights={klein_folder}", "backbone.device=cpu", "conditioning.identity_size=32"]
    small = [*(f"stages.s{stage}.steps=1" for stage in (1, 2, 3)), "train.batch_size=1", "train.devices=1"]
    small += ["train.validation_scenes=1", "train.grid_scenes=1", "train.grid_steps=1", "run.dir=run"]
    small += ["train.lora.rank=2", "train.lora.alpha=2", "backbone.dtype=float32"]
    small += ["datasources.main.image_size=64", "datasources.main.identity_size=32"]
    Framework.load(ROOT / "recipes/curriculum_klein.yaml", [*base, *small]).run()
    assert (tmp_path / "run/adapter/pytorch_lora_weights.safetensors").is_file()
    klein = ["backbone.type=flux2_klein", "adapters.main.path=run/adapter", "sampler.steps=2", "sampler.true_cfg=4"]
    klein += ["sampler.adapter_guidance.scale=1"]  # as the page of the backbone says
    scenes = ROOT / "examples/scenes"
    made = Framework.load(ROOT / "recipes/generate.yaml", [*klein, *base]).generate(scenes / "boxes.yaml", seed=0)
    assert np.ptp(np.asarray(made.images[0])) > 0
    inserted = Framework.load(ROOT / "recipes/insert.yaml", [*klein, *base]).insert(scenes / "insert.yaml", seed=0)
    kept = np.asarray(inserted.region) == 0
    photo = np.asarray(Image.open(scenes / "insert_background.png").convert("RGB"))
    assert kept.any()
    assert np.array_equal(np.asarray(inserted.images[0])[kept], photo[kept])
