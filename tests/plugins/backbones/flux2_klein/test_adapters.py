"""Adapters: files that diffusers reads with the same output, and refusals that say why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import Flux2KleinPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sigma_backbones.adapters import adapter_parameters, matched_modules
from sigma_backbones.flux2_klein.backbone import Flux2KleinBackbone, build
from sigma_backbones.flux2_klein.config import Flux2KleinConfig
from sigma_backbones.flux2_klein.targets import LORA
from sigma_backbones.lora import ADAPTER_FILE, IDS, PEFT_METADATA
from sigma_framework import WeightsError

MakeKlein = Callable[..., Flux2KleinBackbone]
Weights = dict[str, torch.Tensor]


def answer(backbone: Flux2KleinBackbone) -> torch.Tensor:
    with torch.no_grad():
        noise = backbone.noise((64, 64), [torch.Generator().manual_seed(0)])
        return backbone.velocity(noise, torch.tensor([0.5]), backbone.encode_prompt(["a cube"]), [])


def train_a_little(backbone: Flux2KleinBackbone) -> None:
    """Random numbers in the place of a training run."""
    generator = torch.Generator().manual_seed(3)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2


@pytest.fixture(scope="module")
def saved(klein_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alpha is twice the rank: a reader that does not know alpha is seen."""
    backbone = build(Flux2KleinConfig(weights=str(klein_folder), device="cpu"))
    backbone.add_adapter("sigma", 4, 8.0, None, 0)
    train_a_little(backbone)
    facts = {"sigma.intensity_step": "10", "sigma.ids": "another"}
    return backbone.save_adapter(tmp_path_factory.mktemp("adapter"), "sigma", facts)


@pytest.fixture(scope="module")
def untouched(klein_folder: Path) -> Flux2KleinBackbone:
    """For files that must leave it as it is."""
    return build(Flux2KleinConfig(weights=str(klein_folder), device="cpu"))


def test_diffusers_reads_our_file_with_the_same_output(
    make_klein: MakeKlein, pipeline: Flux2KleinPipeline, saved: Path
) -> None:
    backbone = make_klein()
    before = answer(backbone)
    backbone.load_adapter(saved, "sigma", 1.0)
    pipeline.load_lora_weights(str(saved.parent), weight_name=saved.name)
    x, text = backbone.noise((64, 64), [torch.Generator().manual_seed(0)]), backbone.encode_prompt(["a cube"])
    with torch.no_grad():
        theirs = pipeline.transformer(
            hidden_states=x.values,
            timestep=torch.tensor([0.5]),
            encoder_hidden_states=text.values,
            txt_ids=text.ids,
            img_ids=x.ids,
            return_dict=False,
        )[0]
    assert (answer(backbone) - before).abs().max() > 1e-2
    assert (answer(backbone) - theirs).abs().max() <= 1e-6


def test_the_file_says_what_it_is(saved: Path) -> None:
    assert saved.name == ADAPTER_FILE
    with safe_open(str(saved), "pt") as opened:
        metadata, keys = opened.metadata(), list(opened.keys())
    assert metadata["sigma.intensity_step"] == "10"
    assert "T 10" in metadata["sigma.ids"], "the ids are this base's own, whoever else claims to know them"
    assert json.loads(metadata[PEFT_METADATA])["transformer.lora_alpha"] == 8
    assert all(key.startswith("transformer.") for key in keys)
    assert list(saved.parent.iterdir()) == [saved], "no temporary file stays behind"


def test_the_default_list_never_touches_the_stream_of_the_text(klein: Flux2KleinBackbone) -> None:
    found = matched_modules(LORA, klein.transformer, None)
    assert len(found) == 3 + 2 * 5 + 2 * 2
    assert not [name for name in found if re.search(r"context|add_|_txt", name)]
    assert "proj_out" not in found
    klein.add_adapter("sigma", 2, 2.0, None, 0)
    assert {name.split(".lora_")[0] for name in klein.trainable_parameters()} == set(found)


def test_own_targets_and_targets_that_mean_nothing(klein: Flux2KleinBackbone) -> None:
    with pytest.raises(WeightsError, match=r"attn\.to_w: found no linear layer.*Flux2Transformer2DModel"):
        klein.add_adapter("sigma", 2, 2.0, ["x_embedder", "attn.to_w"], 0)
    klein.add_adapter("sigma", 2, 2.0, ["single_transformer_blocks.*.attn.to_out"], 0)
    changed = {name.split(".lora_")[0] for name in klein.trainable_parameters()}
    assert changed == {f"single_transformer_blocks.{index}.attn.to_out" for index in range(2)}


def test_two_adapters_add_up_and_one_can_be_trained_on(make_klein: MakeKlein, saved: Path) -> None:
    twice, halves = make_klein(), make_klein()
    twice.load_adapter(saved, "a", 1.0)
    halves.load_adapter(saved, "a", 0.5)
    halves.load_adapter(saved, "b", 0.5, trainable=True)
    assert torch.allclose(answer(twice), answer(halves), atol=1e-5)
    assert all(".b." in name for name in halves.trainable_parameters())
    frozen = [name for name, p in halves.transformer.named_parameters() if p.requires_grad]
    assert set(frozen) == set(halves.trainable_parameters())
    with pytest.raises(WeightsError, match="another name"):
        halves.load_adapter(saved, "a", 1.0)


def test_a_file_with_alpha_tensors_is_scaled_right(make_klein: MakeKlein, saved: Path, tmp_path: Path) -> None:
    weights = load_file(saved)
    layers = {key.split(".lora_")[0] for key in weights}
    save_file({**weights, **{f"{layer}.alpha": torch.tensor(8.0) for layer in layers}}, tmp_path / "alpha.safetensors")
    ours, other = make_klein(), make_klein()
    ours.load_adapter(saved, "a", 1.0)
    other.load_adapter(tmp_path / "alpha.safetensors", "a", 1.0)
    assert torch.allclose(answer(ours), answer(other), atol=1e-6)


def test_a_file_in_the_names_of_the_original_code_is_read(make_klein: MakeKlein, saved: Path, tmp_path: Path) -> None:
    """diffusers knows that form; here one layer of a single block."""
    weights = {
        key.replace(
            "transformer.single_transformer_blocks.0.attn.to_out", "diffusion_model.single_blocks.0.linear2"
        ): value
        for key, value in load_file(saved).items()
        if key.startswith("transformer.single_transformer_blocks.0.attn.to_out.")
    }
    assert len(weights) == 2
    save_file(weights, tmp_path / "original.safetensors")
    backbone = make_klein()
    before = answer(backbone)
    backbone.load_adapter(tmp_path / "original.safetensors", "a", 1.0)
    assert (answer(backbone) - before).abs().max() > 1e-4


def first_b(weights: Weights) -> str:
    return next(key for key in sorted(weights) if "lora_B" in key)


def make_other_width(weights: Weights) -> None:
    key = first_b(weights)
    weights[key] = torch.ones(weights[key].shape[0] + 3, weights[key].shape[1])


def make_integers(weights: Weights) -> None:
    weights[first_b(weights)] = weights[first_b(weights)].to(torch.int8)


def make_foreign(weights: Weights) -> None:
    for key in list(weights):
        weights[key.replace("transformer.", "unet.", 1)] = weights.pop(key)


NOWHERE = {f"transformer.nowhere.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
HUGE = json.dumps({"transformer.lora_alpha": 1e9, "transformer.r": 4})
ODD_FIELD = json.dumps({"transformer.lora_alpha": 4, "transformer.r": 4, "transformer.odd": 1})
OTHER_RANK = json.dumps({"transformer.lora_alpha": 4, "transformer.r": 8})


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        (lambda w: w.pop(first_b(w)), None, "lora_B is missing"),
        (lambda w: w[first_b(w)].view(-1)[:1].fill_(float("nan")), None, "NaN or infinite"),
        (lambda w: w[first_b(w)].view(-1)[-1:].fill_(float("inf")), None, "NaN or infinite"),
        (lambda w: [w[key].zero_() for key in w if "lora_B" in key], None, "all numbers are zero"),
        (make_other_width, None, "1 of 17 layers have other widths"),
        (make_integers, None, "found numbers of kind I8"),
        (make_foreign, None, "no LoRA weights for a FLUX.2 klein transformer"),
        (lambda w: w.update(NOWHERE), None, "no such linear layer"),
        (lambda w: w.update({"transformer.extra": torch.ones(2)}), None, "no part of a pair"),
        (lambda w: w.update({"transformer.x_embedder.alpha": torch.tensor(1e9)}), None, "at most 1024"),
        (lambda w: None, {PEFT_METADATA: HUGE}, r"lora_alpha: found 1000000000\.0"),
        (lambda w: None, {PEFT_METADATA: OTHER_RANK}, "found rank 8 in the metadata, 4 in the matrices"),
        (lambda w: None, {PEFT_METADATA: "{"}, "is not JSON"),
        (lambda w: None, {PEFT_METADATA: ODD_FIELD}, "metadata field odd: found 1, which"),
    ],
)  # fmt: skip
def test_files_for_something_else_are_refused(
    untouched: Flux2KleinBackbone,
    saved: Path,
    tmp_path: Path,
    change: Callable[[Weights], object],
    metadata: dict[str, str] | None,
    message: str,
) -> None:
    before, weights = answer(untouched), load_file(saved)
    change(weights)
    path = tmp_path / "edited.safetensors"
    save_file(weights, path, metadata)
    with pytest.raises(WeightsError, match=message):
        untouched.load_adapter(path, "bad", 1.0)
    assert torch.equal(before, answer(untouched)), "a refused file leaves the base as it was"
    assert not adapter_parameters(untouched.transformer, "bad"), "half of it was loaded"


def test_other_position_ids_are_refused(untouched: Flux2KleinBackbone, saved: Path, tmp_path: Path) -> None:
    """An adapter of another convention for T would be read in silence: its layers fit."""
    with safe_open(str(saved), "pt") as opened:
        metadata = opened.metadata()
    assert metadata[IDS] == LORA.ids
    other = LORA.ids.replace("T 10", "T 20")
    save_file(load_file(saved), tmp_path / "other.safetensors", {**metadata, IDS: other})
    with pytest.raises(WeightsError, match=r"sigma\.ids: found .*T 20 .*, this base has .*T 10 "):
        untouched.load_adapter(tmp_path / "other.safetensors", "bad", 1.0)
    assert not adapter_parameters(untouched.transformer, "bad")


def test_facts_are_told_and_files_exchanged(make_klein: MakeKlein, saved: Path) -> None:
    backbone = make_klein()
    before = answer(backbone)
    facts = backbone.load_adapter(saved, "a", 0.0)
    assert facts["sigma.intensity_step"] == "10"
    assert IDS not in facts, "compared already, with this base's own"
    assert torch.allclose(answer(backbone), before, atol=1e-6)
    backbone.adapters.weigh({"a": 1.0})
    beside = answer(backbone)
    backbone.adapters.fuse()
    assert torch.allclose(answer(backbone), beside, atol=1e-4)
    backbone.swap_adapter(saved, "a", 0.0)
    assert torch.allclose(answer(backbone), before, atol=1e-4)


def test_a_pattern_in_the_metadata_cannot_reach_other_layers(
    make_klein: MakeKlein, saved: Path, tmp_path: Path
) -> None:
    backbone = make_klein()
    wide = json.dumps({"transformer.lora_alpha": 8, "transformer.r": 4, "transformer.target_modules": ".*"})
    save_file(load_file(saved), tmp_path / "wide.safetensors", {PEFT_METADATA: wide})
    backbone.load_adapter(tmp_path / "wide.safetensors", "a", 1.0)
    changed = {name.split(".lora_")[0] for name, _ in backbone.transformer.named_parameters() if ".lora_" in name}
    assert changed == set(matched_modules(LORA, make_klein().transformer, None))


def test_files_that_are_no_adapters_are_refused(untouched: Flux2KleinBackbone, tmp_path: Path) -> None:
    plain, broken, pickled = (tmp_path / name for name in ("plain.safetensors", "broken.SAFETENSORS", "adapter.bin"))
    save_file({"conv.weight": torch.ones(2)}, plain)
    torch.save({"lora": torch.ones(1)}, broken)
    pickled.write_bytes(b"x")
    for path, message in [
        (plain, "no LoRA weights"),
        (broken, "a pickle under another name"),
        (pickled, "only .safetensors is accepted"),
        (tmp_path / "missing.safetensors", "no such file"),
        (tmp_path, "no such file"),
    ]:
        with pytest.raises(WeightsError, match=message):
            untouched.load_adapter(path, "bad", 1.0)
