"""Training of the pocket VAE: what it sees, what it is judged by, what it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from sigma_backbones.pocket_training.architecture import build_vae
from sigma_backbones.pocket_training.composed_vae import can_compose, decode_composed, encode_composed
from sigma_backbones.pocket_training.options import KINDS, PocketVaeOptions
from sigma_backbones.pocket_training.training_pictures import draw_control, draw_picture
from sigma_backbones.pocket_training.vae_objective import PocketVaeObjective, build_objective
from sigma_framework import DataError, Example, Objective

OPTIONS = PocketVaeOptions(
    encoder_width=16, decoder_width=16, encoder_blocks=(0, 0, 1, 0), decoder_blocks=(1, 1, 0, 0), picture_size=64
)


def objective(**changes: object) -> PocketVaeObjective:
    return build_objective(None, replace(OPTIONS, **changes), 0)


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_it_satisfies_the_protocol() -> None:
    assert isinstance(objective(), Objective)


def test_the_composed_forward_equals_the_plain_one_inside() -> None:
    vae = build_vae(12, (0, 1, 0, 1), 12, (1, 0, 1, 0), 0).double()
    images = torch.rand(2, 3, 128, 128, generator=seeded(1)[0]).double() * 2 - 1
    with torch.no_grad():
        latents = vae.encode(images).latents
        plain, composed = vae.decode(latents).sample, decode_composed(vae, latents)
        assert torch.allclose(plain[..., 1:-1, 1:-1], composed[..., 1:-1, 1:-1], atol=1e-9)
        assert torch.allclose(latents[..., 6:-6, 6:-6], encode_composed(vae, images)[..., 6:-6, 6:-6], atol=1e-9)
    assert can_compose(vae)
    assert not can_compose(build_vae(12, (1, 0, 0, 0), 12, (1, 0, 1, 0), 0))


def test_blocks_do_not_change_what_the_encoder_starts_from(example: Example) -> None:
    """The rectified start is the linear one up to what its residual blocks add."""
    linear, blocks = (build_vae(56, shape, 48, (0, 0, 0, 0), 0) for shape in ((0, 0, 0, 0), (0, 0, 1, 1)))
    picture = torch.from_numpy(example.target.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        first, second = (vae.encode(picture).latents[..., 2:-2, 2:-2] for vae in (linear, blocks))
    assert float((first - second).square().mean()) < 0.05 * float(first.var())


@pytest.mark.parametrize("blocks", [(0, 0, 0, 0), (0, 0, 1, 1)])
def test_the_patch_code_keeps_smooth_pictures_from_the_start(blocks: tuple[int, int, int, int]) -> None:
    vae = build_vae(48, blocks, 48, (0, 0, 0, 0), 0)
    ramp = torch.linspace(-0.6, 0.6, 64).expand(1, 3, 64, 64)
    flat = torch.full((1, 3, 64, 64), 0.3)
    with torch.no_grad():
        bright, level = vae.encode(ramp).latents, vae.encode(flat).latents
        shown = vae.decode(level).sample
    assert bool((bright[0, 0].diff(dim=1) > 0).all()), "the first number follows the brightness of a patch"
    assert level[0, 3:, 2:-2, 2:-2].abs().max() < 0.05, "a flat patch has no detail"
    assert (shown - flat)[..., 16:-16, 16:-16].abs().mean() < 0.2


def test_each_loss_depends_on_its_own_example_and_generator(example: Example) -> None:
    made = objective(latent_weight=0.0)
    both = made.loss([example, example], seeded(2))
    assert both.shape == (2,)
    assert both[0] != both[1], "another generator draws another picture"
    assert torch.allclose(made.loss([example], seeded(2)[1:]), both[1:], atol=1e-6)


def test_training_lowers_the_loss(example: Example) -> None:
    made = objective()
    optimizer = torch.optim.Adam(made.trainable_parameters().values(), 3e-3)
    losses = []
    for _ in range(25):
        loss = made.loss([example] * 4, seeded(4)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_wrong_levels_cost_more_than_noise_of_the_same_size(example: Example) -> None:
    made = objective()
    image = torch.zeros(1, 3, 64, 64)
    noise = 0.1 * torch.sign(torch.randn(image.shape, generator=seeded(1)[0]))
    shifted, noisy = (made._reconstruction_loss(image + error, image) for error in (torch.tensor(0.1), noise))
    assert shifted > 1.5 * noisy


def test_saving_measures_the_latents_and_diffusers_reads_the_folder(example: Example, tmp_path: Path) -> None:
    made = objective()
    for seed in range(200):
        with torch.no_grad():
            made.loss([example], [torch.Generator().manual_seed(seed)])
    made.save(tmp_path / "vae")
    read = AutoencoderTiny.from_pretrained(tmp_path / "vae")
    pictures = [draw_picture(example, "scenes", 64, np.random.default_rng(0))]
    latents = made.vae.encode(made._images(pictures)).latents
    normal = (latents - read.config.shift_factor) * read.config.scaling_factor
    assert 0.4 < float(normal.std()) < 2.5
    assert read.dtype == torch.float32
    settings = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert not [value for value in settings.values() if str(tmp_path) in str(value)]
    again = build_objective(None, replace(OPTIONS, start=str(tmp_path / "vae")), 0)
    assert torch.allclose(again.vae.encoder.layers[0].weight, made.vae.encoder.layers[0].weight, atol=0.01)
    again.save(tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()


def test_pictures_show_each_kind_and_its_reconstruction(example: Example) -> None:
    (row,) = objective().pictures([example], 0)
    assert len(row) == 2 * len(KINDS)
    assert {picture.shape for picture in row} == {(64, 64, 3)}


def test_control_pictures_are_routing_and_depth() -> None:
    overlaps = depths = 0
    for seed in range(40):
        image = draw_control(64, np.random.default_rng(seed), [])
        assert set(np.unique(image[..., :2])) <= set(range(0, 101, 10))
        ascending, descending, depth = (image[..., channel] for channel in range(3))
        if ascending.any() and descending.any():
            assert np.array_equal(ascending > 0, descending > 0)
            assert bool((ascending >= descending).all()), (
                "later subjects have larger intensities and cover earlier ones"
            )
            overlaps += bool((ascending > descending).any())
            assert not depth[ascending == 0].any()
        if depth.any():
            depths += 1
            assert depth[depth > 0].min() == 26
            assert depth.max() == 255
    assert overlaps > 10
    assert 10 < depths < 40


def test_mosaics_are_made_of_identity_images(example: Example) -> None:
    white = np.full((32, 32, 3), 255, dtype=np.uint8)
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    picture = draw_picture(replace(example, identities=(white, black)), "identities", 64, np.random.default_rng(3))
    tiles = {int(picture[r : r + 32, c : c + 32].mean()) for r in (0, 32) for c in (0, 32)}
    assert tiles == {0, 255}


def test_examples_that_do_not_fit_are_named(example: Example) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"example-0: the target is 64 x 64, expected at least 128 x 128"):
        draw_picture(example, "scenes", 128, rng)
    with pytest.raises(DataError, match="example-0: no identity image"):
        draw_picture(replace(example, identities=()), "identities", 64, rng)


def test_textures_vary_and_follow_the_generator(example: Example) -> None:
    first, same, other = (draw_picture(example, "textures", 64, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
