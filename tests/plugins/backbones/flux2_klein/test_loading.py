"""Weights that cannot be used are refused with the way out."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import Flux2Transformer2DModel
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from sigma_backbones.flux2_klein.backbone import build
from sigma_backbones.flux2_klein.config import FULL_SCALE, Flux2KleinConfig
from sigma_backbones.flux2_klein.loading import load_parts
from sigma_framework import WeightsError


@pytest.fixture
def copied(klein_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(klein_folder, tmp_path / "copy"))


def refusal(weights: str | Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_parts(str(weights), None, torch.float32)
    return str(caught.value)


def test_weights_are_kept_in_the_wanted_numbers_and_frozen(klein_folder: Path) -> None:
    for name, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        backbone = build(Flux2KleinConfig(weights=str(klein_folder), device="cpu", dtype=name))
        parameters = [p for model in backbone.modules() for p in model.parameters()]
        assert {p.dtype for p in parameters} == {dtype}
        assert not any(p.requires_grad for p in parameters)


def test_a_missing_folder_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    for weights in (tmp_path / "nowhere", "./nowhere/at-all", "nowhere"):
        message = refusal(weights)
        assert "is not a folder here" in message
        assert FULL_SCALE in message


def test_all_missing_parts_are_named(copied: Path) -> None:
    shutil.rmtree(copied / "vae")
    shutil.rmtree(copied / "tokenizer")
    message = refusal(copied)
    assert "2 problems" in message
    assert "vae: not there" in message
    assert "tokenizer: not there" in message


def test_a_folder_of_another_kind_is_named(copied: Path) -> None:
    index = copied / "model_index.json"
    index.write_text(json.dumps({"_class_name": "Flux2Pipeline"}))
    assert "found Flux2Pipeline, expected Flux2KleinPipeline" in refusal(copied)
    for text in ("{", "[]"):
        index.write_text(text)
        assert "model_index.json is damaged" in refusal(copied)
    index.unlink()
    assert "has no model_index.json" in refusal(copied)


def test_a_cut_file_is_damaged(copied: Path) -> None:
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    message = refusal(copied)
    assert str(copied) in message
    assert "copy or download it again" in message


@pytest.mark.parametrize(
    ("part", "tensor"),
    [("transformer", "x_embedder.weight"), ("vae", "decoder.conv_in.bias"), ("text_encoder", "model.norm.weight")],
)
def test_weights_that_are_not_whole_are_refused(copied: Path, part: str, tensor: str) -> None:
    file = next((copied / part).glob("*.safetensors"))
    weights = load_file(file)
    weights.pop(tensor)
    save_file(weights, file, {"format": "pt"})
    assert f"{copied}/{part} lacks 1 tensors, first {tensor}" in refusal(copied)
    torch.save(weights, file.with_suffix(".bin"))
    file.unlink()
    assert f"{copied}/{part}: found {file.stem}.bin, only .safetensors is accepted" in refusal(copied)


def test_parts_of_different_models_are_refused_together(copied: Path) -> None:
    config = json.loads((copied / "transformer" / "config.json").read_text())
    Flux2Transformer2DModel.from_config({**config, "joint_attention_dim": 30}).save_pretrained(copied / "transformer")
    shorter = {"num_hidden_layers": 26, "layer_types": ["full_attention"] * 26}
    encoder = Qwen3Config.from_pretrained(copied / "text_encoder", **shorter)
    Qwen3ForCausalLM(encoder).save_pretrained(copied / "text_encoder")
    (copied / "tokenizer" / "chat_template.jinja").unlink()
    message = refusal(copied)
    assert "3 problems" in message
    assert "joint_attention_dim: found 30, expected 48" in message
    assert "found 26 layers, expected at least 27" in message
    assert "found no chat template" in message


def test_distilled_weights_are_pointed_out(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = copied / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "is_distilled": True}))
    with caplog.at_level(logging.WARNING, logger="sigma_backbones"):
        backbone = build(Flux2KleinConfig(weights=str(copied), device="cpu"))
    assert "true_cfg 1.0" in caplog.text
    assert backbone.pipeline().config.is_distilled


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (GatedRepoError, ("is gated", "accept its licence at https://huggingface.co/", "hf auth login", "HF_TOKEN")),
        (RepositoryNotFoundError, ("check the name", "hf auth login")),
        (LocalEntryNotFoundError, ("not on this machine", "go online")),
        (ConnectionError, ("not on this machine", "go online")),
    ],
)
def test_the_hub_s_refusals_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception], words: tuple[str, ...]
) -> None:
    def refuse(*_: object, **__: object) -> str:
        error = fault.__new__(fault)
        Exception.__init__(error, "401 Client Error")
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    message = refusal(FULL_SCALE)
    assert FULL_SCALE in message
    assert "backbone.weights=FOLDER" in message
    assert all(word in message for word in words)


def test_a_hub_id_of_another_model_is_refused_by_its_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "vae": []}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model_index.json"))
    message = refusal("somebody/something")
    assert "found FluxPipeline, expected Flux2KleinPipeline" in message
    assert "text_encoder: not there" in message
    assert "vae: not there" not in message


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Flux2KleinConfig(weights=" ")
