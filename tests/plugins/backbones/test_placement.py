"""Memory profiles change where models wait, never what comes out; an encoding is never tiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from sigma_backbones.flux_kontext import placement
from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FluxKontextConfig, memory_options
from sigma_framework import WeightsError

MakeBackbone = Callable[..., FluxKontextBackbone]


def image(backbone: FluxKontextBackbone) -> torch.Tensor:
    """One step from noise under one reference, decoded."""
    drawn = torch.rand(1, 3, 96, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    text = backbone.encode_prompt(["a cube"])
    identity = backbone.encode_image(drawn, "identity")
    x = backbone.noise((32, 48), [torch.Generator().manual_seed(1)])
    with torch.no_grad():
        velocity = backbone.velocity(x, torch.tensor([0.9]), text, [identity])
    return backbone.decode(x.values - 0.9 * velocity, (32, 48))


@pytest.mark.parametrize("memory", ["balanced", "low"])
def test_every_profile_gives_the_same_image(make_backbone: MakeBackbone, memory: str) -> None:
    assert torch.equal(image(make_backbone(memory=memory)), image(make_backbone()))


def test_blocks_are_really_moved_one_by_one(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone(memory="low")
    image(backbone)
    block = backbone.transformer.transformer_blocks[0]
    assert "group_offloading" in str(block._diffusers_hook.hooks.keys())


def test_text_encoders_and_transformer_take_turns(make_backbone: MakeBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[str, str]] = []
    backbone = make_backbone(memory="balanced")
    for name in ("transformer", "text_encoder_2"):
        model = getattr(backbone.parts, name)
        moved = model.to
        monkeypatch.setattr(
            model, "to", lambda where, name=name, moved=moved: (moves.append((name, str(where))), moved(where))[1]
        )
    backbone._placement.device = torch.device("cpu", 0)  # another name of the same device
    backbone.encode_prompt(["a cube"])
    backbone._placement.take_turn("image")
    backbone._placement.take_turn("image")
    backbone.encode_prompt(["a cube"])
    text = [("transformer", "cpu"), ("text_encoder_2", "cpu:0")]
    pictures = [("text_encoder_2", "cpu"), ("transformer", "cpu:0")]
    assert moves == [*text, *pictures, *text]


def test_text_encoders_that_rest_come_back_for_a_prompt(
    make_backbone: MakeBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[str] = []
    backbone = make_backbone().to(torch.device("cpu", 0))  # another name of the same device
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        monkeypatch.setattr(
            getattr(backbone.parts, name), "to", lambda where, name=name: moves.append(f"{name} {where}")
        )
    before = backbone.encode_prompt(["a cube"]).values
    backbone.rest_text_encoders()
    backbone.rest_text_encoders()
    backbone._placement.take_turn("image")
    assert moves == ["text_encoder cpu", "text_encoder_2 cpu"]
    moves.clear()
    assert torch.equal(backbone.encode_prompt(["a cube"]).values, before)
    backbone.encode_prompt(["a cube"])
    assert moves == ["text_encoder cpu:0", "text_encoder_2 cpu:0"]


def with_attention_vae(backbone: FluxKontextBackbone) -> FluxKontextBackbone:
    """The same base with the kind of VAE that FLUX.1 has, small."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=16, use_quant_conv=False,
            use_post_quant_conv=False, scaling_factor=0.36, shift_factor=0.12,
        )  # fmt: skip
    return FluxKontextBackbone(replace(backbone.parts, vae=vae.eval().requires_grad_(False)), backbone.config)


def test_decoding_tiles_and_encoding_does_not(make_backbone: MakeBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "TILE_PIXELS", 32)
    whole, tiled = (with_attention_vae(make_backbone(vae_tiling=tiles)) for tiles in (False, True))
    tall = torch.rand(1, 3, 192, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    one, other = (backbone.encode_image(tall, "identity").values for backbone in (whole, tiled))
    assert torch.equal(one, other)
    decoded, in_tiles = (backbone.decode(one, (192, 64)) for backbone in (whole, tiled))
    assert not torch.equal(decoded, in_tiles), "it was tiled"
    assert torch.equal(tiled.encode_image(tall, "identity").values, one), "and is no longer, afterwards"
    tiled.parts.vae.enable_tiling()
    tiled.parts.vae.tile_sample_min_size, tiled.parts.vae.tile_latent_min_size = 32, 4
    assert not torch.equal(tiled.encode_image(tall, "identity").values, one), "tiles would have changed the identity"


def test_single_options_override_the_profile() -> None:
    options = memory_options(FluxKontextConfig(memory="low", offload="none"))
    assert (options.offload, options.vae_tiling) == ("none", True)
    assert memory_options(FluxKontextConfig(memory="balanced", vae_tiling=True)).vae_tiling


def test_blocks_that_come_and_go_are_not_trained(make_backbone: MakeBackbone) -> None:
    with pytest.raises(WeightsError, match=r"backbone\.memory=full"):
        make_backbone(memory="low").add_adapter("main", 2, 2.0, None, 0)


def test_blocks_that_travel_take_no_new_adapter(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone(memory="low")
    backbone._placement.take_turn("image")
    with pytest.raises(WeightsError, match=r"backbone\.memory=balanced"):
        backbone.load_adapter(Path("anything"), "main", 1.0)
    with pytest.raises(ValueError, match="fuse_adapters needs the whole transformer"):
        FluxKontextConfig(memory="low", fuse_adapters=True)
