"""``backbone.quantize`` through torchao; ``test_quantization.py`` runs this in a process that has torchao."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone, build
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.flux_kontext.memory_estimate import transformer_bytes
from sigma_framework import SampleRequest
from sigma_samplers.config import GenerateConfig
from sigma_samplers.generate import GenerateSampler

MakeBackbone = Callable[..., FluxKontextBackbone]
KINDS = ("int8", "float8")
NEAR = {"int8": 0.03, "float8": 0.09}
"""Distance of the images over their size; float8 has three bits of fraction."""


def generated(backbone: FluxKontextBackbone) -> torch.Tensor:
    """The image of four steps under one reference."""
    reference = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    request = SampleRequest(
        text=backbone.encode_prompt(["a red cube"]),
        conditions=(backbone.encode_image(reference, "identity"),),
        size_hw=(32, 48),
        steps=4,
        generators=(torch.Generator().manual_seed(1),),
    )
    return GenerateSampler(GenerateConfig()).sample(backbone, request)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def stored_bytes(parameter: torch.Tensor) -> int:
    """What a parameter holds, also one that is made of several tensors."""
    if not hasattr(parameter, "__tensor_flatten__"):
        return parameter.numel() * parameter.element_size()
    inner = [getattr(parameter, name) for name in parameter.__tensor_flatten__()[0]]
    return sum(one.numel() * one.element_size() for one in inner)


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = build(FluxKontextConfig(weights=str(tiny_folder), device="cpu"))
    backbone.add_adapter("sigma", 4, 4.0, None, 0)
    generator = torch.Generator().manual_seed(3)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return backbone.save_adapter(tmp_path_factory.mktemp("adapter"), "sigma", {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_takes_the_memory_that_was_estimated(make_backbone: MakeBackbone, kind: str, dtype: str) -> None:
    backbone = make_backbone(quantize=kind, dtype=dtype)
    stored = sum(stored_bytes(parameter.data) for parameter in backbone.transformer.parameters())
    assert stored == transformer_bytes(backbone.config, backbone.transformer.config)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", ["full", "low"])
def test_it_stays_near_the_whole_transformer_with_and_without_an_adapter(
    make_backbone: MakeBackbone, adapter: Path, kind: str, memory: str
) -> None:
    whole, quantized = make_backbone(), make_backbone(quantize=kind, memory=memory)
    if memory != "low":  # blocks that travel take no adapter afterwards
        assert 0 < distance(generated(quantized), generated(whole)) < NEAR[kind]
    before = generated(whole)
    for backbone in (whole, quantized):
        backbone.load_adapter(adapter, "main", 1.0)
    after = generated(whole)
    assert distance(after, before) > 0.18
    assert distance(generated(quantized), after) < NEAR[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_on_it(make_backbone: MakeBackbone, kind: str) -> None:
    gradients = []
    for options in ({}, {"quantize": kind}):
        backbone = make_backbone(**options)
        backbone.add_adapter("main", 2, 2.0, None, 0)
        x, text = backbone.noise((32, 32), [torch.Generator().manual_seed(0)]), backbone.encode_prompt(["a cube"])
        backbone.velocity(x, torch.tensor([0.5]), text, []).square().mean().backward()
        found = [value.grad.flatten() for value in backbone.trainable_parameters().values() if value.grad is not None]
        gradients.append(torch.cat(found))
    assert 0 < distance(gradients[1], gradients[0]) < 0.2
