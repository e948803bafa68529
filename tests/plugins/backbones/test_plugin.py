"""What the package registers can be built from the names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigma_backbones import plugin, pocket_folder
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.pocket_training.options import PocketBaseOptions, PocketSizes, PocketVaeOptions
from sigma_framework import Backbone, BackboneSpec, Objective
from sigma_framework.specs import resolve_factory


@pytest.fixture
def spec() -> BackboneSpec:
    (spec,) = (spec for spec in plugin.sigma_register_backbones() if spec.name == "flux_kontext")
    return spec


def test_the_backbone_is_built_by_its_factory(spec: BackboneSpec, tiny_folder: Path) -> None:
    assert spec.name == "flux_kontext"
    assert spec.size_multiple == 16
    backbone = spec.load_factory()(spec.config(weights=str(tiny_folder), device="cpu"))
    assert isinstance(backbone, Backbone)


def test_the_objectives_are_built_by_their_factories(spec: BackboneSpec, tiny_folder: Path) -> None:
    options = {"pocket_vae": PocketVaeOptions(), "pocket_base": PocketBaseOptions(vae=str(tiny_folder / "vae"))}
    assert set(spec.objectives) == set(options)
    for name, objective_spec in spec.objectives.items():
        assert isinstance(options[name], objective_spec.options)
        assert isinstance(objective_spec.load_factory()(FluxKontextConfig(), options[name], 0), Objective)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["pocket"]),
        ({"quantize": "int8"}, ["pocket"]),
        ({"transformer": "mine.safetensors"}, ["pocket"]),
        ({"weights": FULL_SCALE}, []),
        ({"weights": str(pocket_folder())}, []),
    ],
)
def test_the_shipped_adapter_comes_with_the_shipped_weights(
    spec: BackboneSpec, options: dict[str, str], names: list[str]
) -> None:
    assert spec.adapters is not None
    brought = resolve_factory(spec.adapters)(spec.config(**options))
    assert list(brought) == names
    assert all((folder / "pytorch_lora_weights.safetensors").is_file() for folder in brought.values())


def test_the_shipped_weights_have_one_place() -> None:
    assert pocket_folder().parts[-2:] == ("sigma_backbones", "pocket")


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (PocketVaeOptions, {"scenes": 0.9}, "add up to 1"),
        (PocketVaeOptions, {"decoder_width": 4}, "at least 8"),
        (PocketVaeOptions, {"picture_size": 100}, "multiple of 16"),
        (PocketVaeOptions, {"latent_noise": -1.0}, "latent_noise must be at least 0"),
        (PocketSizes, {"axes": (3, 4, 4)}, "even"),
        (PocketSizes, {"heads": 0}, "heads must be at least 1"),
        (PocketSizes, {"text_width": 30}, "multiples of text_heads"),
        (PocketBaseOptions, {"text_dropout": 1.5}, "between 0 and 1"),
        (PocketBaseOptions, {"subject_weight": -0.1}, "at least 0"),
        (PocketBaseOptions, {"picture_steps": 0}, "at least 1"),
        (FluxKontextConfig, {"weights": " "}, "empty"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**values)
