"""Training of the pocket base: it learns what Kontext can do, and nothing that is left to the adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.pocket_training.base_objective import (
    COMPOSE_TEMPLATE,
    PLACE_TEMPLATE,
    PocketBaseObjective,
    as_images,
    build_objective,
    draw_inputs,
)
from sigma_backbones.pocket_training.options import PocketBaseOptions, PocketSizes
from sigma_framework import Example, Objective, Tokens, WeightsError

Make = Callable[..., PocketBaseObjective]


@pytest.fixture
def make(tiny_folder: Path, tiny_sizes: PocketSizes) -> Make:
    """From the awake checkpoint, unless told to start anew."""

    def build(**options: object) -> PocketBaseObjective:
        settings = {"start": str(tiny_folder), "sizes": tiny_sizes, "picture_steps": 2, **options}
        return build_objective(FluxKontextConfig(), PocketBaseOptions(**settings), 0)

    return build


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def watch(made: PocketBaseObjective, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tokens, ...]]:
    """Records the conditions of every call of the transformer."""
    seen: list[tuple[Tokens, ...]] = []
    velocity = made.backbone.velocity

    def record(x: Tokens, t: torch.Tensor, text: object, conditions: list[Tokens]) -> torch.Tensor:
        seen.append(tuple(conditions))
        return velocity(x, t, text, conditions)

    monkeypatch.setattr(made.backbone, "velocity", record)
    return seen


def test_it_satisfies_the_protocol(make: Make) -> None:
    assert isinstance(make(), Objective)


def test_losses_keep_the_order_and_do_not_depend_on_the_batch(make: Make, examples: tuple[Example, ...]) -> None:
    made = make(reference_share=0.5)
    seeds = range(10, 18)
    drawn = [draw_inputs(e, made.options, g).references for e, g in zip(examples, seeded(*seeds), strict=True)]
    assert {len(references) for references in drawn} == {0, 1, 2}
    together = made.loss(examples, seeded(*seeds))
    alone = [made.loss([e], seeded(s)) for e, s in zip(examples, seeds, strict=True)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_the_base_sees_at_most_one_reference_and_no_spatial_control(
    make: Make, examples: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(reference_share=0.7, collage_share=0.0)
    seen = watch(made, monkeypatch)
    made.loss(examples, seeded(*range(8)))
    assert {len(conditions) for conditions in seen} == {0, 1}
    for conditions in seen:
        for tokens in conditions:
            assert tokens.length == 4, "one identity image of 32 x 32 pixels"
            assert bool((tokens.ids[:, 0] == 1).all())


def test_a_collage_is_the_same_tall_picture_that_an_identity_stack_is(
    make: Make, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(reference_share=1.0, reference_dropout=0.0, collage_share=1.0)
    seen = watch(made, monkeypatch)
    made.loss([example, example], seeded(0, 1))
    blocks = [made.backbone.encode_image(as_images([one]), "identity").values for one in example.identities]
    whole = made.backbone.encode_image(as_images([np.concatenate(example.identities)]), "identity")
    assert torch.equal(seen[0][0].ids, whole.ids)
    assert torch.allclose(seen[0][0].values, torch.cat(blocks, dim=1).expand(2, -1, -1), atol=1e-5)


def test_chance_follows_the_options(example: Example) -> None:
    options = PocketBaseOptions(
        reference_share=0.6, reference_dropout=0.25, text_dropout=0.2, collage_share=0.3, timesteps="logit_normal"
    )
    draws = [draw_inputs(example, options, g) for g in seeded(*range(800))]
    referred = [draw.references for draw in draws if draw.references]
    assert 0.38 < len(referred) / 800 < 0.52
    assert set(referred) == {(0,), (1,), (0, 1)}
    assert 0.2 < sum(len(one) == 2 for one in referred) / len(referred) < 0.4
    texts = {draw.prompt for draw in draws}
    assert texts == {
        "",
        example.prompt_full,
        example.prompt_background,
        PLACE_TEMPLATE.format(prompt=example.prompt_background),
        COMPOSE_TEMPLATE.format(prompt=example.prompt_full),
    }
    assert 0.14 < sum(draw.prompt == "" for draw in draws) / 800 < 0.26
    times = torch.tensor([draw.t for draw in draws])
    assert 0.46 < float(times.mean()) < 0.54
    assert 0.0 < float(times.min()) < float(times.max()) < 1.0
    bare = replace(example, identities=())
    assert all(draw_inputs(bare, options, g).references == () for g in seeded(*range(50)))
    shifted = [draw_inputs(example, replace(options, timesteps="shifted"), g).t for g in seeded(*range(800))]
    assert all(later > t for later, t in zip(shifted, times.tolist(), strict=True))
    assert 0.66 < sum(shifted) / 800 < 0.74


def test_the_right_velocity_points_from_the_image_to_the_noise(
    make: Make, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(reference_share=0.0)
    clean = made.backbone.encode_image(as_images([example.target]), "target").values

    def perfect(x: Tokens, t: torch.Tensor, *_: object) -> torch.Tensor:
        return (x.values - clean) / t[:, None, None]

    monkeypatch.setattr(made.backbone, "velocity", perfect)
    assert float(made.loss([example], seeded(5))) < 1e-6


def test_all_weights_but_the_vae_learn(make: Make, examples: tuple[Example, ...]) -> None:
    made = make()
    made.loss(examples, seeded(*range(8))).mean().backward()
    parameters = made.trainable_parameters()
    assert {name.split(".")[0] for name in parameters} == {"transformer", "text_encoder", "text_encoder_2"}
    assert all(p.grad is not None and p.dtype == torch.float32 for p in parameters.values())
    assert all(p.grad is None for p in made.backbone.parts.vae.parameters())


def test_training_lowers_the_loss(make: Make, tiny_folder: Path, examples: tuple[Example, ...]) -> None:
    made = make(start=None, vae=str(tiny_folder / "vae"))
    optimizer = torch.optim.Adam(made.trainable_parameters().values(), 1e-2)
    losses = []
    for _ in range(30):
        loss = made.loss(examples[:2], seeded(1, 2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_fresh_base_predicts_nothing_yet(make: Make, tiny_folder: Path, example: Example) -> None:
    made = make(start=None, vae=str(tiny_folder / "vae"), subject_weight=0.0)
    draw = draw_inputs(example, made.options, seeded(4)[0])
    assert draw.t > 0
    loss = float(made.loss([example], seeded(4)).detach())
    clean = made._encoded([example.target], [example.key], "target").values
    assert loss == pytest.approx(1 + float(clean.square().mean()), rel=0.2), "the output starts at zero"


def test_subjects_weigh_more_and_the_mean_stays_one(make: Make, example: Example) -> None:
    weights = make(subject_weight=3.0)._token_weights([example])
    assert weights.shape == (1, 16)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[0, 0] == pytest.approx(4 * float(weights[0, -1]))


def test_kept_latents_change_nothing(make: Make, examples: tuple[Example, ...]) -> None:
    kept, fresh = make(keep_latents=100), make()
    first = kept.loss(examples[:4], seeded(*range(4)))
    assert kept._latents
    again = kept.loss(examples[:4], seeded(*range(4)))
    assert torch.equal(first, again)
    assert torch.allclose(first, fresh.loss(examples[:4], seeded(*range(4))), atol=1e-6)
    limited = make(keep_latents=2)
    limited.loss(examples[:4], seeded(*range(4)))
    assert len(limited._latents) == 2


def test_kept_latents_do_not_tell_what_else_was_missing(
    make: Make, examples: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run's memory is empty. An encoder's last bits depend on the batch; here they are made to."""
    plain = FluxKontextBackbone.encode_image

    def encode_image(self: FluxKontextBackbone, images: torch.Tensor, role: str) -> Tokens:
        tokens = plain(self, images, role)
        return Tokens(values=tokens.values * (1 + 0.01 * len(images)), ids=tokens.ids)

    monkeypatch.setattr(FluxKontextBackbone, "encode_image", encode_image)
    kept, resumed = make(keep_latents=100, reference_share=0.5), make(keep_latents=100, reference_share=0.5)
    kept.loss(examples[:3], seeded(*range(3)))
    again, anew = (one.loss(examples, seeded(*range(10, 18))) for one in (kept, resumed))
    assert torch.equal(again, anew)


def test_pictures_are_target_reference_and_result(make: Make, example: Example) -> None:
    made = make()
    rows = made.pictures([example, example, example], 0)
    assert [[picture.shape for picture in row] for row in rows] == [
        [(64, 64, 3), (64, 64, 3), (64, 64, 3)],
        [(64, 64, 3), (32, 32, 3), (64, 64, 3)],
        [(64, 64, 3), (64, 32, 3), (64, 64, 3)],
    ]
    assert (rows[0][2] == made.pictures([example], 0)[0][2]).all()
    assert (rows[0][2] != rows[1][2]).any()


def test_what_is_saved_is_a_whole_pipeline_of_diffusers(make: Make, tiny_folder: Path, tmp_path: Path) -> None:
    made = make()
    made.save(tmp_path / "pocket")
    pipeline = FluxKontextPipeline.from_pretrained(tmp_path / "pocket")
    assert pipeline.transformer.dtype == torch.float32
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        mine, theirs = getattr(made.backbone.parts, name).state_dict(), getattr(pipeline, name).state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.allclose(mine[key], theirs[key].float(), rtol=0.01, atol=1e-3) for key in mine)
    texts = [path.read_text() for path in (tmp_path / "pocket").rglob("*.json")]
    assert not [text for text in texts if str(tmp_path) in text or str(tiny_folder) in text], "no path of this machine"


def test_a_missing_vae_is_named(tmp_path: Path, tiny_sizes: PocketSizes) -> None:
    with pytest.raises(WeightsError, match=r"objective_options\.vae"):
        build_objective(FluxKontextConfig(), PocketBaseOptions(vae=str(tmp_path), sizes=tiny_sizes), 0)
