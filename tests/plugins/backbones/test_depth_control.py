"""External depth: no structure in ``I^C``, residuals for the target's tokens alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetModel
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.depth_control import load_control
from sigma_framework import WeightsError

MakeBackbone = Callable[..., FluxKontextBackbone]
WEIGHTS = "diffusion_pytorch_model.safetensors"


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


def test_a_folder_of_something_else_is_refused(
    make_backbone: MakeBackbone, network: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    cut = Path(shutil.copytree(network, tmp_path / "cut"))
    weights = load_file(cut / WEIGHTS)
    weights.pop("controlnet_x_embedder.weight")
    save_file(weights, cut / WEIGHTS)
    pickled = Path(shutil.copytree(network, tmp_path / "pickled"))
    torch.save(weights, pickled / "diffusion_pytorch_model.bin")
    (pickled / WEIGHTS).unlink()
    cases = {
        tmp_path: "cannot be read",
        tiny_folder / "transformer": "found a FluxTransformer2DModel, expected a FluxControlNetModel",
        cut: "lacks 1 tensors, first controlnet_x_embedder.weight",
        pickled: "found diffusion_pytorch_model.bin, only .safetensors is accepted",
    }
    for wrong, words in cases.items():
        with pytest.raises(WeightsError) as caught:
            make_backbone(depth_control=str(wrong))
        assert str(caught.value).startswith(f"backbone.depth_control: {wrong}")
        assert words in str(caught.value)


def test_a_gated_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = GatedRepoError.__new__(GatedRepoError)
        Exception.__init__(error, "401 Client Error")
        raise error

    monkeypatch.setattr(FluxControlNetModel, "load_config", refuse)
    with pytest.raises(WeightsError) as caught:
        load_control("someone/depth", torch.float32)
    words = ("backbone.depth_control: someone/depth is gated", "hf auth login", "backbone.depth_control=FOLDER")
    assert all(word in str(caught.value) for word in words)
