"""The shipped model and its adapter in diffusers: the same answer as ours."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxKontextPipeline

from sigma_backbones import pocket_folder
from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone, build
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_framework import Tokens


@pytest.fixture(scope="module")
def ours() -> FluxKontextBackbone:
    backbone = build(FluxKontextConfig(device="cpu"))
    backbone.load_adapter(pocket_folder() / "adapter", "main", 1.0)
    return backbone


@pytest.fixture(scope="module")
def theirs() -> FluxKontextPipeline:
    return FluxKontextPipeline.from_pretrained(pocket_folder(), dtype=torch.float32)


@torch.no_grad()
def test_diffusers_loads_pocket_and_its_adapter(ours: FluxKontextBackbone, theirs: FluxKontextPipeline) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 96, 96, generator=generator) * 2 - 1
    x = ours.noise((96, 96), [generator])
    text = ours.encode_prompt(["Place these subjects in a grey floor"])
    conditions = [ours.encode_image(pictures[:1], "identity"), ours.encode_image(pictures[1:], "spatial")]
    mine = ours.velocity(x, torch.tensor([0.7]), text, conditions)

    def answer(sequence: list[Tokens]) -> torch.Tensor:
        return theirs.transformer(
            hidden_states=torch.cat([one.values for one in sequence], dim=1),
            timestep=torch.tensor([0.7]),
            pooled_projections=text.pooled,
            encoder_hidden_states=text.values,
            txt_ids=text.ids,
            img_ids=torch.cat([one.ids for one in sequence]),
            return_dict=False,
        )[0][:, : x.length]

    without = answer([x, *conditions])
    theirs.load_lora_weights(str(pocket_folder() / "adapter"), weight_name="pytorch_lora_weights.safetensors")
    assert torch.allclose(mine, answer([x, *conditions]), atol=1e-5)
    assert (mine - without).abs().max() > 1e-2, "the adapter matters"
