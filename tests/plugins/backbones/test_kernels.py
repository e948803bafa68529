"""Attention backends and torch.compile change nothing beyond rounding; wrong names are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import WeightsError

MakeBackbone = Callable[..., FluxKontextBackbone]


def answer(backbone: FluxKontextBackbone, width: int = 32) -> torch.Tensor:
    with torch.no_grad():
        x = backbone.noise((32, width), [torch.Generator().manual_seed(0)])
        return backbone.velocity(x, torch.tensor([0.5]), backbone.encode_prompt(["a cube"]), [])


def test_an_attention_is_used_and_changes_nothing(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone(attention="_native_math")
    processors = backbone.transformer.attn_processors.values()
    assert str(_AttentionBackendRegistry.get_active_backend()[0]) == "AttentionBackendName.NATIVE", "others keep theirs"
    assert {str(processor._attention_backend) for processor in processors} == {"AttentionBackendName._NATIVE_MATH"}
    assert torch.allclose(answer(backbone), answer(make_backbone()), atol=1e-5)


def test_compiled_blocks_change_nothing_at_any_length(make_backbone: MakeBackbone) -> None:
    compiled, plain = make_backbone(compile="eager"), make_backbone()
    for width in (32, 64):
        assert torch.allclose(answer(compiled, width), answer(plain, width), atol=1e-5)
        compilations = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    answer(compiled, 96)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compilations > 0, "one for every other length"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "flsh"}, "did you mean 'flash'"),
        ({"attention": "flash"}, "flash cannot be used here"),
        ({"compile": "inductr"}, "did you mean 'inductor'"),
    ],
)
def test_wrong_names_are_told(make_backbone: MakeBackbone, options: dict[str, str], words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        make_backbone(**options)
    assert words in str(caught.value)
    assert f"backbone.{next(iter(options))}" in str(caught.value)
