"""The baselines: the kit's contract, one subject at a time by hand, and real Fill, Redux and Depth classes, tiny."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_framework import SigmaError, TextTokens, WeightsError
from sigma_framework.recipe import evaluation_of, load_recipe
from sigma_framework.testing import SamplerConformance, TinyBackbone, toy_request
from sigma_samplers.blended_insertion import BlendedInsertionSampler
from sigma_samplers.config import BlendedInsertionConfig, InsertAnythingConfig, IterativeInsertionConfig
from sigma_samplers.diptych import window_around
from sigma_samplers.insert_anything import InsertAnythingSampler
from sigma_samplers.iterative_insertion import IterativeInsertionSampler
from sigma_samplers.kontext_depth_controlnet import KontextDepthControlnetSampler
from sigma_samplers.plugin import sigma_register_samplers

SPECS = {spec.name: spec for spec in sigma_register_samplers()}


class TestIterativeInsertion(SamplerConformance):
    spec = SPECS["iterative_insertion"]
    passes = 3  # a first picture, then two subjects


def test_passes_are_blended_insertions_of_one_subject() -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (5, 6), steps=2, background=True, subjects=True)
    assert request.subjects is not None and request.background is not None
    made = IterativeInsertionSampler(IterativeInsertionConfig()).sample(backbone, request)

    fresh = toy_request(backbone, (5, 6), steps=2, background=True, subjects=True)
    picture = request.background
    for k in range(2):
        region = request.subjects.regions[:, k]
        one = replace(
            fresh,
            conditions=(
                backbone.encode_image(request.subjects.identities[:, k], "identity"),
                backbone.encode_image(request.subjects.spatials[:, k], "spatial"),
            ),
            background=picture,
            region=region[0],
        )
        painted = BlendedInsertionSampler(BlendedInsertionConfig()).sample(backbone, one)
        picture = torch.where(region[:, None] > 0, painted, picture)
    assert torch.allclose(made, picture, atol=1e-5)
    untouched = (request.subjects.regions.sum(1, keepdim=True) == 0).expand_as(made)
    assert torch.equal(made[untouched], request.background[untouched])
    assert untouched.any() and not untouched.all()


def test_the_order_of_subjects_can_be_turned_round() -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (5,), steps=1, background=True, subjects=True)
    assert request.subjects is not None
    everywhere = replace(request.subjects, regions=torch.ones_like(request.subjects.regions))
    pictures = []
    for order in ("ascending", "descending"):
        one = replace(request, subjects=everywhere, generators=(torch.Generator().manual_seed(5),))
        pictures.append(IterativeInsertionSampler(IterativeInsertionConfig(order=order)).sample(backbone, one))
    assert not torch.allclose(pictures[0], pictures[1])


def test_without_subjects_one_by_one_it_says_so() -> None:
    backbone = TinyBackbone()
    with pytest.raises(SigmaError, match="needs `subjects`"):
        IterativeInsertionSampler(IterativeInsertionConfig()).sample(backbone, toy_request(backbone))


def test_kontext_without_a_depth_network_says_so() -> None:
    backbone = TinyBackbone()
    sampler = KontextDepthControlnetSampler(SPECS["kontext_depth_controlnet"].config())
    with pytest.raises(SigmaError, match=r"backbone\.depth_control"):
        sampler.sample(backbone, toy_request(backbone))


@pytest.fixture(scope="session")
def fill_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Random weights of the real classes: FLUX.1 Fill, Redux and Depth, a few thousand numbers each."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxControlPipeline,
        FluxFillPipeline,
        FluxPriorReduxPipeline,
        FluxTransformer2DModel,
    )
    from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
    from transformers import SiglipVisionConfig, SiglipVisionModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    folder = tmp_path_factory.mktemp("fill")
    without_text = {"text_encoder": None, "tokenizer": None, "text_encoder_2": None, "tokenizer_2": None}

    def transformer(channels: int) -> FluxTransformer2DModel:
        return FluxTransformer2DModel(
            in_channels=channels, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        )  # fmt: skip

    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {
            "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            "vae": AutoencoderKL(
                latent_channels=4, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False,
                shift_factor=0.1, scaling_factor=0.5,
            ),
            **without_text,
        }  # fmt: skip
        # 16 values of the latents, 16 of the masked latents, 8 x 8 of the mask in each of the 4 latents of a token
        FluxFillPipeline(transformer=transformer(288), **parts).save_pretrained(folder / "fill")
        FluxControlPipeline(transformer=transformer(32), **parts).save_pretrained(folder / "depth")
        vision = SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
        FluxPriorReduxPipeline(
            image_encoder=SiglipVisionModel(vision),
            feature_extractor=SiglipImageProcessorPil(size={"height": 32, "width": 32}),
            image_embedder=ReduxImageEncoder(16, 32),
        ).save_pretrained(folder / "redux")
    places = {"weights": str(folder / "fill"), "redux": str(folder / "redux"), "lora": None, "first": None}
    return {**places, "side": 32, "depth": str(folder / "depth")}


@pytest.fixture
def insert_options(fill_folders: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fill_folders.items() if key != "depth"}


class TestInsertAnything(SamplerConformance):
    spec = SPECS["insert_anything"]
    steps = 2
    passes = 3

    @pytest.fixture(autouse=True)
    def _tiny(self, insert_options: dict[str, Any]) -> None:
        self.options = insert_options  # type: ignore[misc]  # this instance's


def test_only_regions_change_and_the_mask_is_filled(insert_options: dict[str, Any]) -> None:
    backbone = TinyBackbone()
    request = toy_request(backbone, (3,), steps=1, background=True, subjects=True)
    assert request.subjects is not None and request.background is not None
    made = InsertAnythingSampler(InsertAnythingConfig(**insert_options)).sample(backbone, request)
    free = (request.subjects.regions.sum(1, keepdim=True) > 0).expand_as(made)
    assert torch.equal(made[~free], request.background[~free])
    assert (made[free] - request.background[free]).abs().mean() > 0.05


def test_the_identity_and_the_picture_reach_the_fill_model(insert_options: dict[str, Any]) -> None:
    """Left half the identity, right half the square around the region, the region alone masked."""
    backbone, seen = TinyBackbone(), {}
    request = toy_request(backbone, (3,), steps=1, background=True, subjects=True)
    assert request.subjects is not None and request.background is not None
    sampler = InsertAnythingSampler(InsertAnythingConfig(**insert_options))
    sampler.sample(backbone, request)
    models = sampler._models
    assert models is not None
    real = type(models.fill).__call__

    def watch(pipeline: Any, **keys: Any) -> Any:
        seen.setdefault("calls", []).append(keys)
        return real(pipeline, **keys)

    class Watched(type(models.fill)):  # type: ignore[misc]
        __call__ = watch

    models.fill.__class__ = Watched
    sampler.sample(backbone, replace(request, generators=(torch.Generator().manual_seed(3),)))
    first = seen["calls"][0]
    assert len(seen["calls"]) == 2
    identity = (request.subjects.identities[:, 0] + 1) / 2  # 32 pixels, as the tiny side
    assert torch.allclose(first["image"][..., :32], identity, atol=1e-5)
    window = window_around(request.subjects.regions[0, 0], 2.0)
    assert not first["mask_image"][..., :32].any()
    masked = window.cut(request.subjects.regions[0, 0][None]).mean()
    assert first["mask_image"][..., 32:].mean() == pytest.approx(float(masked), abs=0.06)
    assert first["prompt_embeds"].shape == (1, 512 + 4, 32) and not first["prompt_embeds"][:, :512].any()
    assert first["guidance_scale"] == 30.0


def test_depth_makes_the_first_picture(fill_folders: dict[str, Any], insert_options: dict[str, Any]) -> None:
    backbone = TinyBackbone()
    sampler = InsertAnythingSampler(InsertAnythingConfig(**{**insert_options, "first": fill_folders["depth"]}))
    request = toy_request(backbone, (3,), steps=1, subjects=True)
    with pytest.raises(SigmaError, match=r"sampler\.first"):
        sampler.sample(backbone, request)
    assert request.subjects is not None
    text = TextTokens(values=torch.randn(1, 4, 32), ids=torch.zeros(4, 3), pooled=torch.randn(1, 16))
    outside = request.subjects.regions.sum(1)[0] == 0
    pictures = []
    for level in (-1.0, 1.0):
        spatial = request.subjects.spatial.clone()
        spatial[:, 2] = level
        one = replace(request, text=text, subjects=replace(request.subjects, spatial=spatial))
        pictures.append(sampler.sample(backbone, replace(one, generators=(torch.Generator().manual_seed(3),))))
    assert not torch.allclose(pictures[0][..., outside], pictures[1][..., outside])  # the depth is read


def test_offline_it_names_the_option_and_the_way_out(
    insert_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    backbone = TinyBackbone()
    request = toy_request(backbone, subjects=True)
    missing = InsertAnythingConfig(**{**insert_options, "redux": "someone/redux"})
    with pytest.raises(WeightsError, match=r"sampler\.redux: someone/redux .*sampler\.redux=FOLDER"):
        InsertAnythingSampler(missing).sample(backbone, request)
    empty = InsertAnythingConfig(**{**insert_options, "weights": str(tmp_path)})
    with pytest.raises(WeightsError, match=r"sampler\.weights: .* cannot be loaded"):
        InsertAnythingSampler(empty).sample(backbone, request)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24), (32, 32)])
def test_a_window_holds_its_region_and_goes_back_where_it_was(height: int, width: int) -> None:
    picture = torch.rand(3, height, width)
    for box in ((2, 3, 9, 20), (0, 0, 4, 4), (height - 3, width - 9, height, width), (0, 0, height, width)):
        region = torch.zeros(height, width)
        region[box[0] : box[2], box[1] : box[3]] = 1
        window = window_around(region, 2.0)
        square = window.cut(picture)
        assert square.shape == (3, window.side, window.side)
        assert window.cut(region[None]).sum() >= region.sum()  # all of it, and its repeated border
        assert torch.equal(window.put(picture, square), picture)
        assert torch.equal(window.put(picture, square * 0)[:, region > 0], torch.zeros(3, int(region.sum())))


def test_options_that_make_no_sense_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"side must be .*; margin must be"):
        InsertAnythingConfig(side=100, margin=0.5)


def test_one_loop_and_iterative_insertion_take_the_same_steps() -> None:
    loaded = load_recipe("ablations/one_loop")
    settings = [evaluation_of(loaded, name).data["sampler"] for name in loaded.data["sweep"]["variants"]]
    assert {one["steps"] for one in settings} == {20} and len({one.get("true_cfg", 1.0) for one in settings}) == 1
