"""What the kit does not ask: sizes, steps, blocks, prompts that are too long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import TaylorSeerCacheConfig

from sigma_backbones.flux2_klein.backbone import Flux2KleinBackbone
from sigma_framework import WeightsError


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_ids_of_the_three_roles_and_of_the_text(klein: Flux2KleinBackbone) -> None:
    target, spatial = (klein.encode_image(pictures(1, 32, 48), role) for role in ("target", "spatial"))
    assert target.ids.tolist() == [[0, row, column, 0] for row in range(2) for column in range(3)]
    assert torch.equal(target.ids, spatial.ids)
    identity = klein.encode_image(pictures(1, 96, 32), "identity")
    assert identity.ids.tolist() == [[10, row, column, 0] for row in range(6) for column in range(2)]
    text = klein.encode_prompt(["a cube"])
    assert text.ids.tolist() == [[0, 0, 0, place] for place in range(80)]


def test_encoded_pictures_are_about_normal_in_each_number(klein: Flux2KleinBackbone) -> None:
    """The statistics are applied where they belong: encoding inverts what decoding applies."""
    vae, images = klein.parts.vae, pictures(1, 32, 48)
    latents = vae.encode(images).latent_dist.mode()
    vae.decode = lambda given, return_dict: (given.new_zeros(1, 3, 32, 48) + (given - latents).abs().max(),)
    assert klein.decode(klein.encode_image(images, "target").values, (32, 48)).max() < 1e-6


def test_blocks_are_encoded_as_if_each_were_alone(make_klein: Callable[..., Flux2KleinBackbone]) -> None:
    backbone, stack = make_klein(identity_encoding="blocks"), pictures(2, 96, 32)
    tall = backbone.encode_image(stack, "identity")
    single = [backbone.encode_image(stack[:, :, top : top + 32], "identity").values for top in (0, 32, 64)]
    assert torch.allclose(tall.values, torch.cat(single, dim=1), atol=1e-5)
    with pytest.raises(ValueError, match="square"):
        backbone.encode_image(pictures(1, 80, 32), "identity")


@pytest.mark.parametrize("size_hw", [(40, 48), (32, 40), (0, 16)])
def test_sizes_off_the_grid_are_refused(klein: Flux2KleinBackbone, size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        klein.noise(size_hw, [torch.Generator()])


def test_no_steps_are_refused(klein: Flux2KleinBackbone) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        klein.timesteps(0, 64)


def test_a_prompt_that_is_cut_is_reported(klein: Flux2KleinBackbone, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sigma_backbones"):
        klein.encode_prompt(["a cube", "cube " * 15 + "zebra"])
        assert caplog.messages == ["a prompt has 105 tokens, this base reads 80; cut off: 'zebra'"]
        for count in range(5):
            klein.encode_prompt([f"{count} " + "cube " * 60])
    assert len(caplog.records) == 3, "no flood in training"


def test_an_adapter_that_is_not_there_is_not_saved(klein: Flux2KleinBackbone, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not loaded"):
        klein.save_adapter(tmp_path / "adapter", "nobody", {})
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left"


def test_text_encoders_that_rest_come_back_for_a_prompt(
    klein: Flux2KleinBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[str] = []
    before = klein.encode_prompt(["a cube"]).values
    monkeypatch.setattr(klein.parts.text_encoder, "to", lambda where: moves.append(str(where)))
    klein.rest_text_encoders()
    klein.rest_text_encoders()
    assert moves == ["cpu"]
    assert torch.equal(klein.encode_prompt(["a cube"]).values, before)
    klein.encode_prompt(["a cube"])
    assert moves == ["cpu", str(klein.device)]


@torch.no_grad()
def test_a_step_cache_of_diffusers_is_used(klein: Flux2KleinBackbone) -> None:
    texts = [klein.encode_prompt([prompt]) for prompt in ("a cube", "")]

    def answers() -> list[torch.Tensor]:
        """Of both texts, in two steps of a new loop."""
        x = klein.noise((32, 48), [torch.Generator().manual_seed(0)])
        return [klein.velocity(x, torch.tensor([t]), text, []) for t in (1.0, 0.2) for text in texts]

    plain = answers()
    klein.transformer.enable_cache(TaylorSeerCacheConfig(cache_interval=5, disable_cache_before_step=1, max_order=0))
    for _ in range(2):
        same = [torch.allclose(*pair, atol=1e-5) for pair in zip(answers(), plain, strict=True)]
        assert same == [True, True, False, False], "each text's first step is its own, the second is the first again"
