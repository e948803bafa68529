"""What every user of the backbone relies on: roles, seeds, shapes, times."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import Backbone, Tokens

MakeBackbone = Callable[..., FluxKontextBackbone]


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def ask(backbone: FluxKontextBackbone, conditions: list[Tokens], prompt: str = "a cube") -> torch.Tensor:
    with torch.no_grad():
        text = backbone.encode_prompt([prompt])
        return backbone.velocity(backbone.noise((32, 48), seeded(0)), torch.tensor([0.6]), text, conditions)


def test_it_satisfies_the_protocol(backbone: FluxKontextBackbone) -> None:
    assert isinstance(backbone, Backbone)


def test_spatial_control_has_the_ids_of_the_target(backbone: FluxKontextBackbone) -> None:
    target, spatial = (backbone.encode_image(pictures(1, 32, 48), role) for role in ("target", "spatial"))
    assert torch.equal(target.ids, spatial.ids)
    assert target.ids.tolist() == [[0, row, column] for row in range(2) for column in range(3)]
    assert torch.equal(target.ids, backbone.noise((32, 48), seeded(0)).ids)


def test_identity_ids_start_at_the_origin_with_first_coordinate_one(backbone: FluxKontextBackbone) -> None:
    identity = backbone.encode_image(pictures(1, 96, 32), "identity")
    assert identity.ids.tolist() == [[1, row, column] for row in range(6) for column in range(2)]


def test_noise_of_a_seed_does_not_depend_on_the_batch(backbone: FluxKontextBackbone) -> None:
    together = backbone.noise((32, 48), seeded(5, 6)).values
    alone = backbone.noise((32, 48), seeded(6)).values
    assert together.shape == (2, 6, 64)
    assert torch.equal(together[1:], alone)
    assert not torch.equal(together[0], together[1])


def test_velocity_covers_the_target_alone_and_every_input_matters(backbone: FluxKontextBackbone) -> None:
    identity, spatial = (
        backbone.encode_image(pictures(1, 32, 32), "identity"),
        backbone.encode_image(pictures(1, 32, 48, seed=1), "spatial"),
    )
    plain = ask(backbone, [])
    both = ask(backbone, [identity, spatial])
    assert plain.shape == both.shape == (1, 6, 64)
    others = [
        plain,
        ask(backbone, [identity]),
        ask(backbone, [spatial]),
        ask(backbone, [identity, spatial], prompt="a red sphere"),
        ask(backbone, [replace(identity, ids=torch.zeros_like(identity.ids)), spatial]),
        ask(backbone, [identity, replace(spatial, ids=spatial.ids + 1)]),
    ]
    assert all((both - other).abs().max() > 1e-4 for other in others)


def test_each_row_of_a_batch_is_what_it_is_alone(backbone: FluxKontextBackbone) -> None:
    images, t = pictures(2, 32, 48), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        text = backbone.encode_prompt(["a cube", "a red sphere"])
        spatial, noise = backbone.encode_image(images, "spatial"), backbone.noise((32, 48), seeded(1, 2))
        together = backbone.velocity(noise, t, text, [spatial])
        text = backbone.encode_prompt(["a red sphere"])
        spatial, noise = backbone.encode_image(images[1:], "spatial"), backbone.noise((32, 48), seeded(2))
        alone = backbone.velocity(noise, t[1:], text, [spatial])
    assert torch.allclose(together[1:], alone, atol=1e-5)


def test_decode_gives_pictures_in_range(backbone: FluxKontextBackbone) -> None:
    images = backbone.decode(10 * backbone.noise((32, 48), seeded(0, 1)).values, (32, 48))
    assert images.shape == (2, 3, 32, 48)
    assert images.abs().max() <= 1


def test_times_fall_from_one_to_zero_and_stay_higher_for_larger_targets(backbone: FluxKontextBackbone) -> None:
    small, large = backbone.timesteps(4, 64), backbone.timesteps(4, 4096)
    assert small.shape == (5,)
    assert small[0] == 1
    assert small[-1] == 0
    assert bool((small.diff() < 0).all())
    assert bool((large[1:-1] > small[1:-1]).all())


@pytest.mark.parametrize("size_hw", [(40, 48), (32, 40), (0, 16)])
def test_sizes_off_the_grid_are_refused(backbone: FluxKontextBackbone, size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        backbone.noise(size_hw, seeded(0))


def test_no_steps_are_refused(backbone: FluxKontextBackbone) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        backbone.timesteps(0, 64)


def test_blocks_are_encoded_as_if_each_were_alone(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone(identity_encoding="blocks")
    stack = pictures(2, 96, 32)
    tall = backbone.encode_image(stack, "identity")
    single = [backbone.encode_image(stack[:, :, top : top + 32], "identity").values for top in (0, 32, 64)]
    assert torch.allclose(tall.values, torch.cat(single, dim=1), atol=1e-5)
    with pytest.raises(ValueError, match="square"):
        backbone.encode_image(pictures(1, 80, 32), "identity")


def test_a_prompt_that_is_cut_is_reported(backbone: FluxKontextBackbone, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sigma_backbones"):
        text = backbone.encode_prompt(["cube " * 60 + "zebra"])
        assert text.values.shape[1] == text.ids.shape[0] == 48
        assert "zebra" in caplog.text
        for count in range(5):
            backbone.encode_prompt([f"{count} " + "cube " * 60])
    assert len(caplog.records) == 3, "no flood in training"


def test_different_prompts_have_different_pooled_vectors(backbone: FluxKontextBackbone) -> None:
    pooled = backbone.encode_prompt(["a red cube", "a blue cube"]).pooled
    assert pooled is not None
    assert (pooled[0] - pooled[1]).abs().max() > 1e-3


def test_nothing_is_trainable_before_an_adapter_is_added(backbone: FluxKontextBackbone) -> None:
    assert backbone.trainable_parameters() == {}
    assert not any(p.requires_grad for model in backbone.modules() for p in model.parameters())


def test_a_base_that_reads_guidance_asks_for_it(backbone: FluxKontextBackbone) -> None:
    backbone.transformer.register_to_config(guidance_embeds=True)
    assert backbone.guidance_embedded
    with pytest.raises(ValueError, match="guidance"):
        ask(backbone, [])
