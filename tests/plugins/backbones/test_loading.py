"""Weights that cannot be used are refused with the way out."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import FluxTransformer2DModel
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from sigma_backbones.flux_kontext.backbone import build
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.loading import load_parts
from sigma_framework import WeightsError

Renaming = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def refusal(weights: str | Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_parts(str(weights), None, torch.float32)
    return str(caught.value)


def test_weights_are_kept_in_the_wanted_numbers(tiny_folder: Path) -> None:
    for name, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        backbone = build(FluxKontextConfig(weights=str(tiny_folder), device="cpu", dtype=name))
        assert {p.dtype for model in backbone.modules() for p in model.parameters()} == {dtype}


def test_a_missing_folder_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    assert "is not a folder here" in refusal(tmp_path / "nowhere")
    assert "is not a folder here" in refusal("./nowhere/at-all")


def test_all_missing_parts_are_named(copied: Path) -> None:
    shutil.rmtree(copied / "vae")
    shutil.rmtree(copied / "tokenizer_2")
    message = refusal(copied)
    assert "2 problems" in message
    assert "vae: not there" in message
    assert "tokenizer_2: not there" in message


def test_a_folder_of_another_kind_is_named(copied: Path) -> None:
    (copied / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    assert "found StableDiffusionPipeline, expected FluxKontextPipeline" in refusal(copied)
    (copied / "model_index.json").write_text("{")
    assert "model_index.json is damaged" in refusal(copied)
    (copied / "model_index.json").unlink()
    assert "has no model_index.json" in refusal(copied)


def test_a_cut_file_is_damaged(copied: Path) -> None:
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    message = refusal(copied)
    assert str(copied) in message
    assert "copy or download it again" in message


def edit(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("transformer", lambda w: w.pop("x_embedder.bias"), "lacks 1 tensors, first x_embedder.bias"),
        ("vae", lambda w: w.pop("decoder.layers.0.weight"), "lacks 1 tensors, first decoder.layers.0.weight"),
        ("text_encoder", lambda w: w.pop("final_layer_norm.bias"), "lacks 1 tensors, first final_layer_norm.bias"),
        ("text_encoder_2", lambda w: w.pop("shared.weight"), "lacks 2 tensors, first encoder.embed_tokens.weight"),
        (
            "text_encoder",
            lambda w: w.update({"final_layer_norm.bias": torch.ones(3)}),
            "has 1 tensors of other sizes, first final_layer_norm.bias: found (3,), expected (16,)",
        ),
        (
            "transformer",
            lambda w: w.update({"transformer_blocks.2.norm1.linear.bias": torch.ones(3)}),
            "has 1 tensors without a place, first transformer_blocks.2.norm1.linear.bias",
        ),
    ],
)
def test_weights_that_are_not_whole_are_refused(
    copied: Path, part: str, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    """The libraries load each of these: what is missing is drawn at random, what has no place is left out."""
    edit(next((copied / part).glob("*.safetensors")), change)
    message = refusal(copied)
    assert message.startswith(f"backbone.weights: {copied}/{part} {words}")
    assert "\n" not in message


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_weights_that_can_run_code_are_refused(copied: Path, part: str) -> None:
    (file,) = (copied / part).glob("*.safetensors")
    pickled = file.with_name("pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin")
    torch.save(load_file(file), pickled)
    file.unlink()
    assert f"{copied}/{part}: found {pickled.name}, only .safetensors is accepted" in refusal(copied)


def test_a_missing_shard_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a download leaves it that was stopped."""
    transformer = FluxTransformer2DModel.from_pretrained(copied / "transformer")
    shutil.rmtree(copied / "transformer")
    transformer.save_pretrained(copied / "transformer", max_shard_size="60KB")
    (shard,) = (copied / "transformer").glob("*-00002-of-*")
    shard.unlink()
    message = refusal(copied)
    assert message.startswith(f"backbone.weights: {copied}/transformer cannot be read")
    assert shard.name in message
    assert capsys.readouterr().err == "", "told once"


def test_parts_of_different_models_are_refused(copied: Path) -> None:
    path = copied / "transformer" / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "pooled_projection_dim": 24}))
    shutil.rmtree(copied / "transformer")
    FluxTransformer2DModel.from_config({**settings, "pooled_projection_dim": 24}).save_pretrained(
        copied / "transformer"
    )
    assert "pooled_projection_dim: found 24, expected 16" in refusal(copied)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (GatedRepoError, ("is gated", "accept its licence at https://huggingface.co/", "hf auth login", "HF_TOKEN")),
        (RepositoryNotFoundError, ("check the name", "hf auth login")),
        (LocalEntryNotFoundError, ("not on this machine", "go online", "HF_TOKEN")),
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


def test_an_unreachable_hub_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library's own line for each retry, whose logger is as it was afterwards."""
    hub, lines = logging.getLogger("huggingface_hub"), []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    def retry(*_: object, **__: object) -> str:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", retry)
    monkeypatch.setattr(hub, "handlers", [Heard()])
    level = hub.level
    assert "could not be downloaded (LocalEntryNotFoundError: no connection)" in refusal(FULL_SCALE)
    assert lines == [] and hub.level == level
    with pytest.raises(LocalEntryNotFoundError):
        retry()
    assert lines == ["Retrying in 1s [Retry 1/5]."]


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "could not be downloaded" in refusal("nobody/nothing-of-this-name")


def test_a_single_file_gives_the_transformer(tiny_folder: Path, tmp_path: Path) -> None:
    part = load_file(tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {key: value * 2 for key, value in part.items()}
    save_file(changed, tmp_path / "mine.safetensors")
    parts = load_parts(str(tiny_folder), None, torch.float32, str(tmp_path / "mine.safetensors"))
    for name, value in parts.transformer.state_dict().items():
        assert torch.equal(value, changed[name].float()), name
    assert not any(parameter.requires_grad for parameter in parts.transformer.parameters())


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("guidance", [False, True])
def test_a_single_file_in_flux_s_own_names_is_the_same_transformer(
    copied: Path, tmp_path: Path, original_names: Renaming, prefix: str, guidance: bool
) -> None:
    config = json.loads((copied / "transformer" / "config.json").read_text())
    with torch.random.fork_rng():
        torch.manual_seed(2)
        transformer = FluxTransformer2DModel.from_config({**config, "guidance_embeds": guidance})
    shutil.rmtree(copied / "transformer")
    transformer.save_pretrained(copied / "transformer")
    weights = {f"{prefix}{name}": value for name, value in original_names(transformer.state_dict()).items()}
    assert f"{prefix}double_blocks.0.img_attn.qkv.weight" in weights
    if prefix:
        weights["first_stage_model.decoder.conv_in.weight"] = torch.ones(3)  # such files may hold a VAE too
    save_file(weights, tmp_path / "flux.safetensors")
    read = load_parts(str(copied), None, torch.float32, str(tmp_path / "flux.safetensors")).transformer
    wanted, found = transformer.state_dict(), read.state_dict()
    assert wanted.keys() == found.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
    answers = [velocity_of(one.eval()) for one in (transformer, read)]
    assert torch.allclose(*answers, atol=1e-6), "beyond rounding, which depends on where numbers lie in memory"


def velocity_of(transformer: FluxTransformer2DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    guidance = torch.tensor([2.5]) if transformer.config.guidance_embeds else None
    text, tokens = torch.randn(1, 5, 16, generator=generator), torch.randn(1, 4, 64, generator=generator)
    with torch.no_grad():
        return transformer(
            hidden_states=tokens, timestep=torch.tensor([0.5]), guidance=guidance, txt_ids=torch.zeros(5, 3),
            pooled_projections=torch.ones(1, 16), encoder_hidden_states=text, img_ids=torch.ones(4, 3),
        ).sample  # fmt: skip


def test_single_files_that_do_not_fit_are_refused(tiny_folder: Path, tmp_path: Path, original_names: Renaming) -> None:
    part = load_file(tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    path = tmp_path / "mine.safetensors"

    def message() -> str:
        with pytest.raises(WeightsError) as caught:
            load_parts(str(tiny_folder), None, torch.float32, str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is not a file here" in message()
    save_file({**part, "x_embedder.weight": torch.ones(3, 3)}, path)
    assert "does not fit the transformer of" in message()
    original = original_names(part)
    original.pop("double_blocks.1.txt_mlp.0.bias")
    save_file(original, path)
    assert "1 layers are missing, first transformer_blocks.1.ff_context.net.0.proj" in message()
    save_file({**original_names(part), "guidance_in.in_layer.weight": torch.ones(32, 256)}, path)
    assert "1 tensors that this transformer does not have, first guidance_in.in_layer.weight" in message()
    save_file({**original_names(part), "single_blocks.0.linear1.weight": torch.ones(99, 32)}, path)
    assert "single_blocks.0.linear1.weight has 99 rows, expected 224" in message()
    save_file({key: value for key, value in part.items() if "single" not in key}, path)
    assert f"backbone.transformer: {path}" in message()
    path.write_bytes(path.read_bytes()[:-8])
    assert "damaged: expected" in message()
    assert "write backbone.transformer=" in refusal(path)
    with pytest.raises(ValueError, match=r"must be a \.safetensors or \.gguf file"):
        FluxKontextConfig(transformer="model.ckpt")


def test_a_hub_id_with_its_revisions_is_read_from_the_cache_offline(tiny_folder: Path, tmp_path: Path) -> None:
    """Two commits as ``hf download`` leaves them, in shards; a third stopped before the VAE's weights."""
    repository, sharded = tmp_path / "hub" / "models--acme--kontext", tmp_path / "sharded"
    shutil.copytree(tiny_folder, sharded)
    for part, kind in (("transformer", FluxTransformer2DModel), ("text_encoder_2", T5EncoderModel)):
        model = kind.from_pretrained(tiny_folder / part)
        shutil.rmtree(sharded / part)
        model.save_pretrained(sharded / part, max_shard_size="20KB")
        assert list((sharded / part).glob("*-00002-of-*"))
    for revision, commit in (("main", "a" * 40), ("v2", "b" * 40), ("partial", "c" * 40)):
        shutil.copytree(sharded, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    second, partial = (repository / "snapshots" / (letter * 40) for letter in "bc")
    index = json.loads((second / "transformer" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    edit(second / "transformer" / index["weight_map"]["x_embedder.bias"], lambda w: w["x_embedder.bias"].fill_(7))
    (partial / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    program = (
        "import sys, torch\nfrom sigma_backbones.flux_kontext.loading import load_parts\n"
        "from sigma_framework import WeightsError\n"
        "for revision in (None, 'v2', 'partial', 'v9'):\n"
        "    try:\n        parts = load_parts('acme/kontext', revision, torch.float32)\n"
        "        print(parts.transformer.x_embedder.bias[0].item())\n"
        "    except WeightsError as error:\n        print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stderr == ""
    first, changed, stopped, unknown = done.stdout.splitlines()
    assert float(first) != 7 and float(changed) == 7
    for message in (stopped, unknown):
        assert message.startswith("backbone.weights: acme/kontext is not on this machine and could not be downloaded")
        assert message.endswith("or name a local copy with backbone.weights=FOLDER")
