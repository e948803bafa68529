"""Adapter files from strangers: each fault is refused with its reason, and nothing of the file stays behind."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.targets import LORA
from sigma_backbones.lora import ADAPTER_FILE, IDS, PEFT_METADATA
from sigma_framework import WeightsError

Weights = dict[str, torch.Tensor]
MakeBackbone = Callable[..., FluxKontextBackbone]


@pytest.fixture(scope="module")
def saved(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sigma_backbones.flux_kontext.backbone import build
    from sigma_backbones.flux_kontext.config import FluxKontextConfig

    backbone = build(FluxKontextConfig(weights=str(tiny_folder), device="cpu"))
    backbone.add_adapter("sigma", 4, 4.0, None, 0)
    generator = torch.Generator().manual_seed(3)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return backbone.save_adapter(tmp_path_factory.mktemp("adapter"), "sigma", {"sigma.intensity_step": "10"})


@pytest.fixture(scope="module")
def one_backbone(tiny_folder: Path) -> FluxKontextBackbone:
    """Shared: a refused file leaves it as it was."""
    from sigma_backbones.flux_kontext.backbone import build
    from sigma_backbones.flux_kontext.config import FluxKontextConfig

    return build(FluxKontextConfig(weights=str(tiny_folder), device="cpu"))


def refused(backbone: FluxKontextBackbone, path: Path) -> str:
    names = [name for name, _ in backbone.transformer.named_parameters()]
    with pytest.raises(WeightsError) as caught:
        backbone.load_adapter(path, "bad", 1.0)
    assert [name for name, _ in backbone.transformer.named_parameters()] == names, "something of the file was loaded"
    assert backbone.adapters.weights == {}
    return str(caught.value)


def first(weights: Weights, side: str = "lora_B") -> str:
    return next(key for key in sorted(weights) if side in key)


def other_width(weights: Weights) -> None:
    key = first(weights)
    weights[key] = torch.ones(weights[key].shape[0] + 3, weights[key].shape[1])


def other_rank(weights: Weights) -> None:
    key = first(weights)
    weights[key] = torch.ones(weights[key].shape[0], 7)


def foreign(weights: Weights) -> None:
    for key in list(weights):
        weights[key.replace("transformer.", "unet.", 1)] = weights.pop(key)


def unknown_layer(weights: Weights) -> None:
    for side in "AB":
        weights[f"transformer.nowhere.lora_{side}.weight"] = torch.ones(4, 4)


def as_integers(weights: Weights) -> None:
    for key in list(weights):
        weights[key] = (weights[key] * 100).to(torch.int8)


def renamed(weights: Weights) -> None:
    for key in list(weights):
        weights[key.replace("lora_", "delta_")] = weights.pop(key)


CHANGES: list[tuple[Callable[[Weights], object], str]] = [
    (lambda w: w.pop(first(w)), "1 of 25 pairs are incomplete: lora_B is missing"),
    (lambda w: [w.pop(key) for key in list(w) if "lora_A" in key], "25 of 25 pairs are incomplete: lora_A is missing"),
    (lambda w: w[first(w)].view(-1)[:1].fill_(float("nan")), "1 tensors hold NaN or infinite"),
    (lambda w: w[first(w, "lora_A")].view(-1)[-1:].fill_(float("inf")), "1 tensors hold NaN or infinite"),
    (lambda w: w[first(w)].view(-1)[:1].fill_(1e9), "1 tensors hold numbers beyond 10000"),
    (lambda w: [w[key].zero_() for key in w if "lora_B" in key], "all numbers are zero"),
    (other_width, "1 of 25 layers have other widths: made for"),
    (other_rank, "of rank 4, this base has"),
    (foreign, "no LoRA weights for a FLUX.1 transformer in it; first: unet."),
    (unknown_layer, "1 of 26 layers: this base has no such linear layer"),
    (as_integers, "found numbers of kind I8, expected"),
    (renamed, "no LoRA weights in it; expected lora_A and lora_B pairs, first: transformer."),
    (lambda w: w.update({"transformer.x_embedder.lora_A.extra": torch.ones(2)}), "no part of a pair"),
    (lambda w: w.update({"transformer.x_embedder.dora_scale": torch.ones(2)}), "a DoRA"),
    (lambda w: w.update({"transformer.x_embedder.alpha": torch.tensor(1e9)}), "found 1000000000.0, expected a number"),
    (lambda w: w.update({"transformer.x_embedder.alpha": torch.tensor([1.0, 2.0])}), "expected a number above 0"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_weights_for_something_else_are_refused(
    one_backbone: FluxKontextBackbone, saved: Path, tmp_path: Path, change: Callable[[Weights], object], words: str
) -> None:
    weights = load_file(saved)
    change(weights)
    save_file(weights, tmp_path / "edited.safetensors")
    message = refused(one_backbone, tmp_path / "edited.safetensors")
    assert words in message
    assert str(tmp_path / "edited.safetensors") in message
    assert "\n" not in message, "one fault, one line"


SETTINGS: list[tuple[object, str]] = [
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("[]", "found no map"),
    ({"lora_alpha": 1e9}, "metadata field lora_alpha: found 1000000000.0, expected a number above 0 and at most 1024"),
    ({"lora_alpha": -1}, "metadata field lora_alpha"),
    ({"r": True}, "metadata field r"),
    ({"lora_alpha": float("nan")}, "metadata field lora_alpha"),
    ({"use_dora": True}, "metadata field use_dora: found True, which this base does not read"),
    ({"newer_option": 3}, "metadata field newer_option: found 3, which this base does not read"),
    ({"r": 8}, "metadata field r: found rank 8 in the metadata, 4 in the matrices"),
    ({"bias": "all"}, "metadata field bias"),
    ({"alpha_pattern": {".*": 64}}, "metadata field alpha_pattern: expected layer names, found a search pattern"),
    ({"rank_pattern": {"x_embedder": 1e6}}, "metadata field rank_pattern x_embedder"),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS)
def test_metadata_is_bounded_and_understood(
    one_backbone: FluxKontextBackbone, saved: Path, tmp_path: Path, settings: object, words: str
) -> None:
    text = settings
    if isinstance(settings, dict):
        fields = {"r": 4, "lora_alpha": 4, **settings}
        text = json.dumps({f"transformer.{key}": value for key, value in fields.items()})
    path = tmp_path / "edited.safetensors"
    save_file(load_file(saved), path, {"format": "pt", PEFT_METADATA: str(text)})
    message = refused(one_backbone, path)
    assert words in message
    assert "\n" not in message


def test_a_scale_said_twice_is_refused(one_backbone: FluxKontextBackbone, saved: Path, tmp_path: Path) -> None:
    with safe_open(str(saved), "pt") as opened:
        metadata = opened.metadata()
    weights = load_file(saved) | {"transformer.x_embedder.alpha": torch.tensor(4.0)}
    save_file(weights, tmp_path / "twice.safetensors", metadata)
    assert "says its scale twice" in refused(one_backbone, tmp_path / "twice.safetensors")


def test_other_position_ids_are_refused(one_backbone: FluxKontextBackbone, saved: Path, tmp_path: Path) -> None:
    with safe_open(str(saved), "pt") as opened:
        metadata = opened.metadata()
    assert metadata[IDS] == LORA.ids
    save_file(load_file(saved), tmp_path / "other.safetensors", {**metadata, IDS: "identity right of the target"})
    message = refused(one_backbone, tmp_path / "other.safetensors")
    assert f'sigma.ids: found "identity right of the target", this base has "{LORA.ids}"' in message
    assert "\n" not in message


def test_the_layers_in_the_metadata_are_not_trusted(make_backbone: MakeBackbone, saved: Path, tmp_path: Path) -> None:
    settings = {"transformer.r": 4, "transformer.lora_alpha": 4, "transformer.target_modules": ".*"}
    path = tmp_path / "greedy.safetensors"
    save_file(load_file(saved), path, {PEFT_METADATA: json.dumps(settings)})
    backbone = make_backbone()
    backbone.load_adapter(path, "a", 1.0)
    changed = {name.split(".lora_")[0] for name, _ in backbone.transformer.named_parameters() if ".lora_" in name}
    assert len(changed) == 25


def test_files_that_are_no_adapters_are_refused(one_backbone: FluxKontextBackbone, saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    files = {
        "stranger.bin": (b"x", "found a .bin file, only .safetensors is accepted from others"),
        "stranger.ckpt": (pickle.dumps({}), "found a .ckpt file"),
        "pickled.safetensors": (pickle.dumps({"a": 1}), "a pickle under another name"),
        "pickled.SAFETENSORS": (b"PK\x03\x04" + b"\0" * 64, "a pickle under another name"),
        "nothing.safetensors": (b"", "found 0 bytes"),
        "short.safetensors": (whole[:-10], "damaged: expected"),
        "cut.safetensors": (whole[:200], "damaged: expected a header of"),
        "long.safetensors": (whole + b"x", "damaged: expected"),
        "huge.safetensors": ((1 << 62).to_bytes(8, "little") + b"{}", "damaged or not a safetensors file"),
        "text.safetensors": (b"\x05" + b"\0" * 7 + b"hello", "its header is not JSON"),
        "overlap.safetensors": (
            b"\x60" + b"\0" * 7 + json.dumps({"lora": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()
            + b" " * 37 + b"0000", "damaged",
        ),
    }  # fmt: skip
    for name, (content, words) in files.items():
        (tmp_path / name).write_bytes(content)
        message = refused(one_backbone, tmp_path / name)
        assert words in message, name
        assert "\n" not in message, name
    assert "no such file" in refused(one_backbone, tmp_path / "missing.safetensors")
    (tmp_path / "empty").mkdir()
    assert f"a folder with {ADAPTER_FILE}" in refused(one_backbone, tmp_path / "empty")


def test_every_fault_is_told(one_backbone: FluxKontextBackbone, saved: Path, tmp_path: Path) -> None:
    weights = load_file(saved)
    other_width(weights)
    unknown_layer(weights)
    weights[first(weights, "lora_A")].fill_(float("nan"))
    save_file(weights, tmp_path / "edited.safetensors")
    message = refused(one_backbone, tmp_path / "edited.safetensors")
    assert "3 problems" in message
    assert len(message.splitlines()) == 4
