"""Costs are counted without torch, and counted right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from peft import LoraConfig
from transformers import Qwen3Config, Qwen3ForCausalLM

from sigma_backbones.flux2_klein.backbone import Flux2KleinBackbone
from sigma_backbones.flux2_klein.config import FULL_SCALE, Flux2KleinConfig
from sigma_backbones.flux2_klein.explain import FULL_SCALE_CONFIGS, explain
from sigma_backbones.flux2_klein.parameter_counts import adapter_parameters, linear_layers
from sigma_backbones.flux2_klein.targets import DEFAULT_TARGETS
from sigma_backbones.lora import target_pattern
from sigma_framework import WeightsError

FACTS = {"size_hw": (768, 512), "identity_size": 512, "subjects": 3, "rank": 128, "batch_size": 1, "task": "train"}


def count(model: torch.nn.Module, part: str = "") -> int:
    return sum(parameter.numel() for name, parameter in model.named_parameters() if part in name)


def test_full_scale_is_counted_as_the_classes_have_it() -> None:
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(**FULL_SCALE_CONFIGS["transformer"])
        vae = AutoencoderKLFlux2(**FULL_SCALE_CONFIGS["vae"])
        encoder = Qwen3ForCausalLM(Qwen3Config(**FULL_SCALE_CONFIGS["text_encoder"]))
        found = explain(Flux2KleinConfig(), FACTS)["parameters"]
        assert found["transformer"] == count(transformer)
        assert found["vae"] == count(vae)
        assert found["text_encoders"] == count(encoder)
        transformer.add_adapter(LoraConfig(r=128, lora_alpha=128, target_modules=target_pattern(DEFAULT_TARGETS)))
        assert found["adapter"] == count(transformer, ".lora_")
    assert round(found["transformer"] / 1e9, 2) == 3.88
    assert round(found["text_encoders"] / 1e9, 2) == 4.02
    assert round(found["adapter"] / 1e6, 1) == 146.3


def test_own_targets_are_counted_exactly() -> None:
    shape = {**FULL_SCALE_CONFIGS["transformer"], "num_layers": 2, "num_single_layers": 2}
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(**shape)
    layers = {
        name: (module.in_features, module.out_features)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert linear_layers(shape) == layers
    targets = ["transformer_blocks.*.ff.linear_in", "single_transformer_blocks.1.attn.to_out", "norm_out.linear"]
    with torch.device("meta"):
        transformer.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=target_pattern(targets)))
    assert adapter_parameters(shape, 8, targets) == count(transformer, ".lora_") > 0
    assert explain(Flux2KleinConfig(), {**FACTS, "targets": ["x_embedder"]})["parameters"]["adapter"] == 128 * 3200
    with pytest.raises(WeightsError, match=r"attn\.to_w: found no linear layer.*Flux2Transformer2DModel"):
        explain(Flux2KleinConfig(), {**FACTS, "targets": ["attn.to_w"]})


def test_a_folder_is_counted_as_it_loads(klein: Flux2KleinBackbone, klein_folder: Path) -> None:
    klein.add_adapter("main", 4, 4.0, None, 0)
    transformer, vae, encoder = klein.modules()
    adapter = count(transformer, ".lora_")
    found = explain(Flux2KleinConfig(weights=str(klein_folder)), {**FACTS, "rank": 4})
    assert found["parameters"] == {
        "transformer": count(transformer) - adapter,
        "vae": count(vae),
        "text_encoders": count(encoder),
        "adapter": adapter,
    }
    assert found["tokens"]["text"] == klein.encode_prompt(["a cube"]).values.shape[1]


def test_tokens_follow_the_sizes() -> None:
    tokens = explain(Flux2KleinConfig(), FACTS)["tokens"]
    assert tokens == {"text": 512, "target": 1536, "identity": 3072, "spatial": 1536, "total": 6656}
    oblong = explain(Flux2KleinConfig(), {**FACTS, "identity_size": (32, 64), "text_length": 100})["tokens"]
    assert oblong["identity"] == 3 * 2 * 4
    assert oblong["text"] == 100


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_are_what_autograd_keeps(
    make_klein: Callable[..., Flux2KleinBackbone], klein_folder: Path, dtype: str
) -> None:
    backbone = make_klein(dtype=dtype)
    backbone.add_adapter("main", 1, 1.0, None, 0)
    own = {tensor.untyped_storage().data_ptr() for tensor in backbone.transformer.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x, text = backbone.noise((160, 128), [torch.Generator().manual_seed(0)]), backbone.encode_prompt(["a cube"])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.velocity(x, torch.tensor([0.5]), text, [])
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    facts = {"size_hw": (160, 128), "identity_size": 16, "subjects": 0, "rank": 1, "batch_size": 1, "task": "train"}
    found = explain(Flux2KleinConfig(weights=str(klein_folder), dtype=dtype), facts)
    without_spatial = 1 - found["tokens"]["spatial"] / found["tokens"]["total"]
    assert found["memory_bytes"]["activations"] * without_spatial == pytest.approx(measured, rel=0.15)


def test_the_plan_keeps_within_its_memory() -> None:
    def activations(subjects: int, **options: object) -> int:
        config = Flux2KleinConfig(gradient_checkpointing=True, **options)
        return int(explain(config, {**FACTS, "subjects": subjects, "batch_size": 1})["memory_bytes"]["activations"])

    for subjects in (1, 10):
        least, planned = activations(subjects), activations(subjects, activation_gb=20.0)
        assert least < planned <= 20e9
    assert (
        activations(1, activation_gb=500.0)
        == explain(Flux2KleinConfig(), {**FACTS, "subjects": 1, "batch_size": 1})["memory_bytes"]["activations"]
    )
    with pytest.raises(ValueError, match="expected more than 0, and gradient_checkpointing: true"):
        Flux2KleinConfig(activation_gb=20.0)


def test_memory_grows_with_what_is_asked_for() -> None:
    def memory(facts: dict[str, object] | None = None, **options: object) -> dict[str, int]:
        return dict(explain(Flux2KleinConfig(**options), {**FACTS, **(facts or {})})["memory_bytes"])

    training = memory()
    assert 15e9 < training["weights"] < 17e9
    assert training["adapter_and_optimizer"] > memory({"task": "generate"})["adapter_and_optimizer"]
    assert memory({"batch_size": 2})["activations"] == 2 * training["activations"]
    assert memory(gradient_checkpointing=True)["activations"] < training["activations"] / 5
    assert memory(dtype="float32")["weights"] == 2 * training["weights"]
    held = training["weights"] + training["adapter_and_optimizer"]
    assert training["peak"] == held + training["activations"]
    small = memory({"task": "generate", "subjects": 30})
    assert small["peak"] == small["weights"] + small["adapter_and_optimizer"] + small["vae"], "a tall identity image"


def test_licences_are_named() -> None:
    assert explain(Flux2KleinConfig(weights=FULL_SCALE), FACTS)["licence"] == "Apache-2.0"
    other = Flux2KleinConfig(weights="black-forest-labs/FLUX.2-klein-base-9B")
    assert "non-commercial" in explain(other, FACTS)["licence"]


def test_listing_and_explaining_import_no_torch() -> None:
    code = (
        "import sys; from sigma_backbones.plugin import sigma_register_backbones as hook;"
        "from sigma_framework.specs import resolve_factory;"
        "(spec,) = (spec for spec in hook() if spec.name == 'flux2_klein');"
        f"resolve_factory(spec.explain)(spec.config(), {FACTS!r});"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
