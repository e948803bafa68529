"""Costs are counted without torch, and counted right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.explain import (
    FULL_SCALE_TRANSFORMER,
    adapter_parameters,
    explain,
    transformer_parameters,
)
from sigma_backbones.flux_kontext.parameter_counts import linear_layers
from sigma_backbones.flux_kontext.targets import DEFAULT_TARGETS
from sigma_backbones.lora import target_pattern
from sigma_framework import WeightsError

FACTS = {"size_hw": (768, 512), "identity_size": 512, "subjects": 3, "rank": 128, "batch_size": 1, "task": "train"}


@pytest.fixture(scope="module")
def full_scale() -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel(**FULL_SCALE_TRANSFORMER)


def test_the_full_transformer_is_counted_exactly(full_scale: FluxTransformer2DModel) -> None:
    counted = sum(p.numel() for p in full_scale.parameters())
    assert transformer_parameters(FULL_SCALE_TRANSFORMER) == counted
    assert round(counted / 1e9, 1) == 11.9


def test_the_paper_s_adapter_has_463_6_million_parameters(full_scale: FluxTransformer2DModel) -> None:
    with torch.device("meta"):
        full_scale.add_adapter(LoraConfig(r=128, lora_alpha=128, target_modules=target_pattern(DEFAULT_TARGETS)))
    counted = sum(p.numel() for name, p in full_scale.named_parameters() if ".lora_" in name)
    assert adapter_parameters(FULL_SCALE_TRANSFORMER, 128) == counted
    assert round(counted / 1e6, 1) == 463.6


def test_every_linear_layer_is_known_by_name_and_size(full_scale: FluxTransformer2DModel) -> None:
    found = {
        name: (module.in_features, module.out_features)
        for name, module in full_scale.named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name
    }
    assert linear_layers(FULL_SCALE_TRANSFORMER) == {
        name.removesuffix(".base_layer"): sides for name, sides in found.items()
    }


@pytest.mark.parametrize(
    "targets",
    [
        ["x_embedder"],
        ["transformer_blocks.*.attn.to_q", "single_transformer_blocks.*.proj_mlp"],
        ["single_transformer_blocks.7.attn.to_k", "proj_out", "norm_out.linear", "time_text_embed.*.linear_1"],
        ["transformer_blocks.*.ff_context.net.0.proj", "transformer_blocks.*.attn.to_add_out"],
    ],
)
def test_own_targets_are_counted_exactly(targets: list[str]) -> None:
    with torch.device("meta"):
        shape = {**FULL_SCALE_TRANSFORMER, "num_layers": 2, "num_single_layers": 8}
        transformer = FluxTransformer2DModel(**shape)
        transformer.add_adapter(LoraConfig(r=16, lora_alpha=16, target_modules=target_pattern(targets)))
    counted = sum(p.numel() for name, p in transformer.named_parameters() if ".lora_" in name)
    assert adapter_parameters(shape, 16, targets) == counted > 0


def test_explain_reads_the_recipe_s_targets() -> None:
    config = FluxKontextConfig(weights=FULL_SCALE)
    found = explain(config, {**FACTS, "targets": ("x_embedder",)})
    assert found["parameters"]["adapter"] == 128 * (64 + 3072)
    assert found["memory_bytes"]["adapter_and_optimizer"] < explain(config, FACTS)["memory_bytes"]["weights"] / 100
    with pytest.raises(WeightsError, match=r"attn\.to_w: found no linear layer.*FluxTransformer2DModel"):
        explain(config, {**FACTS, "targets": ("x_embedder", "attn.to_w")})


def test_tokens_follow_the_sizes() -> None:
    tokens = explain(FluxKontextConfig(weights=FULL_SCALE), FACTS)["tokens"]
    assert tokens == {"text": 512, "target": 1536, "identity": 3072, "spatial": 1536, "total": 6656}
    oblong = explain(FluxKontextConfig(weights=FULL_SCALE), {**FACTS, "identity_size": (32, 64), "text_length": 100})
    assert oblong["tokens"]["identity"] == 3 * 2 * 4
    assert oblong["tokens"]["text"] == 100


def test_a_folder_is_counted_as_it_loads(backbone: FluxKontextBackbone, tiny_folder: Path) -> None:
    found = explain(FluxKontextConfig(weights=str(tiny_folder)), FACTS)["parameters"]
    transformer, vae, *text = (sum(p.numel() for p in model.parameters()) for model in backbone.modules())
    assert found["transformer"] == transformer
    assert found["vae"] == vae
    assert found["text_encoders"] == sum(text)
    assert explain(FluxKontextConfig(weights=str(tiny_folder)), FACTS)["tokens"]["text"] == 48


def test_memory_grows_with_what_is_asked_for() -> None:
    def memory(facts: dict[str, object] | None = None, **options: object) -> dict[str, int]:
        config = FluxKontextConfig(weights=FULL_SCALE, **options)
        return dict(explain(config, {**FACTS, **(facts or {})})["memory_bytes"])

    training = memory()
    assert 30e9 < training["weights"] < 36e9
    assert training["adapter_and_optimizer"] > memory({"task": "generate"})["adapter_and_optimizer"]
    assert memory({"batch_size": 2})["activations"] == 2 * training["activations"]
    assert memory(gradient_checkpointing=True)["activations"] < training["activations"] / 5
    assert memory(dtype="float32")["weights"] == 2 * training["weights"]


def test_licences_are_named() -> None:
    assert "Non-Commercial" in explain(FluxKontextConfig(weights=FULL_SCALE), FACTS)["licence"]
    assert "gated" in explain(FluxKontextConfig(weights=FULL_SCALE), FACTS)["licence"]


def test_listing_and_explaining_import_no_torch(tiny_folder: Path) -> None:
    code = (
        "import sys; from sigma_backbones.plugin import sigma_register_backbones as hook;"
        "(spec,) = (spec for spec in hook() if spec.name == 'flux_kontext');"
        "from sigma_framework.specs import resolve_factory;"
        f"resolve_factory(spec.explain)(spec.config(weights={str(tiny_folder)!r}), {FACTS!r});"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
