"""Adapters: no effect at first, exact files, refusals that say why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sigma_backbones.adapters import adapter_parameters, matched_modules
from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.explain import adapter_parameters as expected_parameters
from sigma_backbones.flux_kontext.targets import LORA
from sigma_backbones.lora import ADAPTER_FILE
from sigma_framework import WeightsError

MakeBackbone = Callable[..., FluxKontextBackbone]


def answer(backbone: FluxKontextBackbone) -> torch.Tensor:
    with torch.no_grad():
        noise = backbone.noise((32, 32), [torch.Generator().manual_seed(0)])
        return backbone.velocity(noise, torch.tensor([0.5]), backbone.encode_prompt(["a cube"]), [])


def train_a_little(backbone: FluxKontextBackbone, seed: int = 3) -> None:
    """Random numbers in the place of a training run."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


@pytest.fixture
def saved(make_backbone: MakeBackbone, tmp_path: Path) -> Path:
    backbone = make_backbone()
    backbone.add_adapter("sigma", 4, 4.0, None, 0)
    train_a_little(backbone)
    return backbone.save_adapter(tmp_path / "adapter", "sigma", {"sigma.intensity_step": "10"})


def test_a_fresh_adapter_changes_nothing_and_is_trainable(backbone: FluxKontextBackbone) -> None:
    before = answer(backbone)
    backbone.add_adapter("sigma", 4, 4.0, None, 0)
    assert torch.equal(before, answer(backbone))
    trainable = backbone.trainable_parameters()
    assert all(p.dtype == torch.float32 and p.requires_grad for p in trainable.values())
    assert {name for name, p in backbone.transformer.named_parameters() if p.requires_grad} == set(trainable)


def test_gradients_reach_the_adapter_alone(backbone: FluxKontextBackbone) -> None:
    backbone.add_adapter("sigma", 2, 2.0, None, 0)
    noise = backbone.noise((32, 32), [torch.Generator().manual_seed(0)])
    backbone.velocity(noise, torch.tensor([0.5]), backbone.encode_prompt(["a cube"]), []).square().mean().backward()
    with_gradient = {name for name, p in backbone.transformer.named_parameters() if p.grad is not None}
    assert with_gradient <= set(backbone.trainable_parameters())
    assert any(bool(p.grad.any()) for p in backbone.trainable_parameters().values() if p.grad is not None)


def test_the_default_list_never_touches_the_stream_of_the_text(backbone: FluxKontextBackbone) -> None:
    found = matched_modules(LORA, backbone.transformer, None)
    assert "x_embedder" in found
    assert not [name for name in found if re.search(r"context|add_|to_add_out", name)]
    assert "proj_out" not in found, "the outer projection is not single_transformer_blocks.*.proj_out"
    assert len(found) == 1 + 2 * 6 + 2 * 6
    backbone.add_adapter("sigma", 4, 4.0, None, 0)
    changed = {name.split(".lora_")[0] for name in backbone.trainable_parameters()}
    assert changed == set(found)
    counted = sum(p.numel() for p in backbone.trainable_parameters().values())
    assert counted == expected_parameters(backbone.transformer.config, 4)


def test_own_targets_use_a_star_for_one_part(backbone: FluxKontextBackbone) -> None:
    backbone.add_adapter("sigma", 2, 2.0, ["single_transformer_blocks.*.attn.to_q"], 0)
    changed = {name.split(".lora_")[0] for name in backbone.trainable_parameters()}
    assert changed == {f"single_transformer_blocks.{index}.attn.to_q" for index in range(2)}


def test_a_target_that_names_nothing_is_an_error(backbone: FluxKontextBackbone) -> None:
    with pytest.raises(WeightsError, match=r"attn\.to_w: found no linear layer"):
        backbone.add_adapter("sigma", 2, 2.0, ["x_embedder", "attn.to_w"], 0)


def test_seeds_decide_the_start_and_the_global_state_is_left_alone(make_backbone: MakeBackbone) -> None:
    starts = []
    for seed in (1, 1, 2):
        backbone = make_backbone()
        state = torch.get_rng_state()
        backbone.add_adapter("sigma", 2, 2.0, None, seed)
        assert torch.equal(state, torch.get_rng_state())
        starts.append(torch.cat([p.detach().flatten() for p in backbone.trainable_parameters().values()]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_a_file_comes_back_exactly_with_its_weight(make_backbone: MakeBackbone, tmp_path: Path) -> None:
    base, first = answer(make_backbone()), make_backbone()
    first.add_adapter("sigma", 4, 8.0, None, 0)
    train_a_little(first)
    path = first.save_adapter(tmp_path, "sigma", {})
    again, none = make_backbone(), make_backbone()
    again.load_adapter(path, "other", 1.0)
    none.load_adapter(tmp_path, "other", 0.0)
    assert (answer(first) - base).abs().max() > 1e-3
    assert torch.allclose(answer(first), answer(again), atol=1e-6)
    assert torch.allclose(answer(none), base, atol=1e-6)
    assert again.trainable_parameters() == {}


def test_two_adapters_work_at_once(make_backbone: MakeBackbone, saved: Path, tmp_path: Path) -> None:
    other = make_backbone()
    other.add_adapter("b", 2, 2.0, ["x_embedder"], 0)
    train_a_little(other, seed=9)
    second = other.save_adapter(tmp_path / "second", "b", {})
    both, half = make_backbone(), make_backbone()
    both.load_adapter(saved, "a", 1.0)
    alone = answer(both)
    both.load_adapter(second, "b", 1.0)
    half.load_adapter(saved, "a", 1.0)
    half.load_adapter(second, "b", 0.0)
    assert (answer(both) - alone).abs().max() > 1e-4
    assert torch.allclose(answer(half), alone, atol=1e-6)


def test_a_loaded_adapter_can_be_trained_on(make_backbone: MakeBackbone, saved: Path) -> None:
    backbone = make_backbone()
    backbone.load_adapter(saved, "frozen", 1.0)
    backbone.load_adapter(saved, "sigma", 1.0, trainable=True)
    trainable = backbone.trainable_parameters()
    assert set(trainable) == set(adapter_parameters(backbone.transformer, "sigma"))
    assert all(p.requires_grad for p in trainable.values())
    assert not any(p.requires_grad for p in adapter_parameters(backbone.transformer, "frozen").values())


def test_the_file_says_what_it_is(saved: Path) -> None:
    assert saved.name == ADAPTER_FILE
    with safe_open(str(saved), "pt") as opened:
        metadata, keys = opened.metadata(), list(opened.keys())
    assert metadata["sigma.intensity_step"] == "10"
    assert json.loads(metadata["lora_adapter_metadata"])["transformer.r"] == 4
    assert all(key.startswith("transformer.") for key in keys)
    assert list(saved.parent.iterdir()) == [saved], "no temporary file stays behind"


def test_one_name_is_given_once(backbone: FluxKontextBackbone, saved: Path) -> None:
    backbone.load_adapter(saved, "sigma", 1.0)
    with pytest.raises(WeightsError, match="another name"):
        backbone.load_adapter(saved, "sigma", 1.0)
