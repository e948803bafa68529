"""``Flux Kontext*``: references in the sequence, no ``I^C`` there, depth through a real, tiny FluxControlNetModel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxControlNetModel

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import Backbone, Tokens
from sigma_framework.testing import SamplerConformance, toy_request
from sigma_samplers.kontext_depth_controlnet import KontextDepthControlnetSampler
from sigma_samplers.plugin import sigma_register_samplers

SPEC = next(spec for spec in sigma_register_samplers() if spec.name == "kontext_depth_controlnet")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = FluxControlNetModel(
            in_channels=64, num_layers=1, num_single_layers=0, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=False, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        for parameter in made.parameters():
            parameter.data.normal_(std=0.2)
    made.save_pretrained(folder)
    return folder


class TestKontextDepthControlnet(SamplerConformance):
    spec = SPEC
    steps = 2
    tolerance = 2e-3  # the transformer's rounding differs with the batch

    @pytest.fixture(autouse=True)
    def _backbone(self, make_backbone: Callable[..., FluxKontextBackbone], network: Path) -> None:
        self._made = make_backbone(depth_control=str(network))

    def backbone(self) -> Backbone:
        return self._made


@torch.no_grad()
def test_only_the_depth_of_the_control_image_is_read(
    make_backbone: Callable[..., FluxKontextBackbone], network: Path
) -> None:
    backbone = make_backbone(depth_control=str(network))
    request = toy_request(backbone, (1,), steps=1)
    identity, _ = request.conditions
    sampler = KontextDepthControlnetSampler(SPEC.config())
    controls = torch.zeros(3, 3, 64, 64) - 1
    controls[1, :2, 16:48, 16:48] = 0.5  # other routing
    controls[2, 2, 16:48, 16:48] = 0.5  # other depth
    made = []
    for control in controls:
        spatial = backbone.encode_image(control[None], "spatial")
        one = replace(request, conditions=(identity, spatial), generators=(torch.Generator().manual_seed(1),))
        made.append(sampler.sample(backbone, one))
    assert torch.equal(made[0], made[1])
    assert not torch.allclose(made[0], made[2], atol=1e-3)


@torch.no_grad()
def test_tokens_without_ids_stay_out_of_the_sequence(
    make_backbone: Callable[..., FluxKontextBackbone], network: Path
) -> None:
    silent = make_backbone(depth_control=str(network), depth_control_scale=0.0)
    request = toy_request(silent, (1,), steps=1)
    identity, spatial = request.conditions
    x = silent.noise((64, 64), request.generators)
    carried = Tokens(values=spatial.values, ids=spatial.ids[:0])
    t = torch.tensor([0.6])
    alone = make_backbone().velocity(x, t, request.text, (identity,))
    assert torch.allclose(silent.velocity(x, t, request.text, (identity, carried)), alone, atol=1e-6)
    assert not torch.allclose(silent.velocity(x, t, request.text, (identity, spatial)), alone, atol=1e-4)
