"""External depth: no structure in ``I^C``, residuals for the target's tokens alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetModel

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import WeightsError

MakeBackbone = Callable[..., FluxKontextBackbone]


@pytest.fixture(scope="module", params=[None, 7], ids=["plain", "union"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = FluxControlNetModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=False, axes_dims_rope=(4, 6, 6),
            num_mode=request.param,
        )  # fmt: skip
        for parameter in made.parameters():
            parameter.data.normal_(std=0.2)
    made.save_pretrained(folder)
    return folder


def given(backbone: FluxKontextBackbone, height: int = 32) -> dict[str, Any]:
    drawn = torch.rand(2, 3, height, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {
        "x": backbone.noise((height, 48), [torch.Generator().manual_seed(1)]),
        "t": torch.tensor([0.6]),
        "text": backbone.encode_prompt(["a cube"]),
        "conditions": (backbone.encode_image(drawn[:1], "identity"), backbone.encode_image(drawn[1:], "spatial")),
    }


@torch.no_grad()
def test_it_is_the_network_s_residuals_on_the_target(make_backbone: MakeBackbone, network: Path) -> None:
    backbone, plain = make_backbone(depth_control=str(network), depth_control_scale=0.7), make_backbone()
    arguments = given(backbone)
    x, text = arguments["x"], arguments["text"]
    identity, spatial = arguments["conditions"]
    drawn = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    without = drawn[1:].clone()
    without[:, 2] = -1
    depth = plain.encode_image(drawn[1:, 2:].expand(-1, 3, -1, -1), "target").values
    assert torch.equal(spatial.values, torch.cat([plain.encode_image(without, "spatial").values, depth], dim=-1))

    control = FluxControlNetModel.from_pretrained(network)
    common = {
        "timestep": torch.tensor([0.6]),
        "encoder_hidden_states": text.values,
        "pooled_projections": text.pooled,
        "txt_ids": text.ids,
        "return_dict": False,
    }
    double, single = control(
        hidden_states=x.values, controlnet_cond=depth, conditioning_scale=0.7, img_ids=x.ids,
        controlnet_mode=torch.tensor([[2]]) if control.union else None, **common,
    )  # fmt: skip
    sequence = torch.cat([x.values, identity.values, spatial.values[..., :64]], dim=1)
    rows = sequence.shape[1] - x.length
    wanted = plain.transformer(
        hidden_states=sequence,
        img_ids=torch.cat([x.ids, identity.ids, spatial.ids]),
        controlnet_block_samples=[torch.cat([one, torch.zeros(1, rows, 32)], dim=1) for one in double],
        controlnet_single_block_samples=[torch.cat([one, torch.zeros(1, rows, 32)], dim=1) for one in single],
        **common,
    )[0][:, : x.length]
    mine = backbone.velocity(**arguments)
    assert torch.allclose(mine, wanted, atol=1e-5)
    unguided = make_backbone(depth_control=str(network), depth_control_scale=0.0)
    assert (mine - unguided.velocity(**arguments)).abs().max() > 1e-3


def test_a_folder_of_something_else_is_refused(make_backbone: MakeBackbone, tmp_path: Path, tiny_folder: Path) -> None:
    for wrong in (tmp_path, tiny_folder):
        with pytest.raises(WeightsError, match=r"backbone\.depth_control: .* FluxControlNetModel"):
            make_backbone(depth_control=str(wrong))
