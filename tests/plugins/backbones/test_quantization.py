"""A quantized transformer stays near the whole one, carries adapters, and says in advance what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file

from sigma_backbones.flux_kontext import quantization
from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone, build
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.explain import explain
from sigma_backbones.flux_kontext.memory_estimate import transformer_bytes
from sigma_framework import SampleRequest, WeightsError
from sigma_samplers.config import GenerateConfig
from sigma_samplers.generate import GenerateSampler

MakeBackbone = Callable[..., FluxKontextBackbone]
Weights = dict[str, torch.Tensor]
Renaming = Callable[[Weights], Weights]
CASES = Path(__file__).with_name("torchao_cases.py")
FACTS = {"size_hw": (1024, 1024), "identity_size": 512, "subjects": 3, "rank": 128, "batch_size": 1, "task": "generate"}


def write_gguf(weights: Weights, path: Path, kind: str = "Q8_0") -> Path:
    """As published files are: matrices whose rows are whole blocks quantized, the rest float32."""
    number = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(path), arch="flux")
    for name, value in weights.items():
        array = value.float().numpy()
        whole = array.ndim == 2 and array.shape[1] % gguf.GGML_QUANT_SIZES[number][0] == 0
        if whole:
            writer.add_tensor(name, gguf.quants.quantize(array, number), raw_dtype=number)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def weights(tiny_folder: Path) -> Weights:
    return load_file(tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def gguf_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(weights, tmp_path_factory.mktemp("gguf") / "flux.gguf")


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = build(FluxKontextConfig(weights=str(tiny_folder), device="cpu"))
    backbone.add_adapter("sigma", 4, 4.0, None, 0)
    generator = torch.Generator().manual_seed(3)
    for parameter in backbone.trainable_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return backbone.save_adapter(tmp_path_factory.mktemp("adapter"), "sigma", {})


def generated(backbone: FluxKontextBackbone) -> torch.Tensor:
    """The image of four steps under one reference."""
    reference = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    request = SampleRequest(
        text=backbone.encode_prompt(["a red cube"]),
        conditions=(backbone.encode_image(reference, "identity"),),
        size_hw=(32, 48),
        steps=4,
        generators=(torch.Generator().manual_seed(1),),
    )
    return GenerateSampler(GenerateConfig()).sample(backbone, request)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_a_gguf_file_is_near_the_whole_transformer(make_backbone: MakeBackbone, gguf_file: Path) -> None:
    backbone = make_backbone(transformer=str(gguf_file))
    matrices = [block.attn.to_q.weight for block in backbone.transformer.transformer_blocks]
    assert {matrix.dtype for matrix in matrices} == {torch.uint8}
    assert not any(parameter.requires_grad for parameter in backbone.transformer.parameters())
    assert 0 < distance(generated(backbone), generated(make_backbone())) < 0.05


def test_a_gguf_file_in_flux_s_own_names_is_the_same(
    make_backbone: MakeBackbone, gguf_file: Path, weights: Weights, original_names: Renaming, tmp_path: Path
) -> None:
    original = write_gguf(original_names(weights), tmp_path / "original.gguf")
    ours, theirs = (make_backbone(transformer=str(file)).transformer.state_dict() for file in (gguf_file, original))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_fewer_bits_are_farther_away(make_backbone: MakeBackbone, weights: Weights, tmp_path: Path) -> None:
    whole = generated(make_backbone())
    files = [write_gguf(weights, tmp_path / f"{kind}.gguf", kind) for kind in ("Q8_0", "Q4_0")]
    fine, coarse = (distance(generated(make_backbone(transformer=str(file))), whole) for file in files)
    assert fine < coarse < 0.5


@pytest.mark.parametrize("memory", ["full", "low"])
def test_an_adapter_does_the_same_on_it(
    make_backbone: MakeBackbone, gguf_file: Path, adapter: Path, memory: str
) -> None:
    whole, quantized = make_backbone(), make_backbone(transformer=str(gguf_file), memory=memory)
    before = generated(whole)
    for backbone in (whole, quantized):
        backbone.load_adapter(adapter, "main", 1.0)
    after = generated(whole)
    assert distance(after, before) > 0.1
    assert distance(generated(quantized), after) < 0.05


def test_an_adapter_is_trained_on_it(make_backbone: MakeBackbone, gguf_file: Path) -> None:
    gradients = []
    for options in ({}, {"transformer": str(gguf_file)}):
        backbone = make_backbone(**options)
        backbone.add_adapter("main", 2, 2.0, None, 0)
        x, text = backbone.noise((32, 32), [torch.Generator().manual_seed(0)]), backbone.encode_prompt(["a cube"])
        backbone.velocity(x, torch.tensor([0.5]), text, []).square().mean().backward()
        found = [value.grad.flatten() for value in backbone.trainable_parameters().values() if value.grad is not None]
        gradients.append(torch.cat(found))
    assert 0 < distance(gradients[1], gradients[0]) < 0.1


def test_quantized_weights_are_not_fused(make_backbone: MakeBackbone, gguf_file: Path, adapter: Path) -> None:
    backbone = make_backbone(transformer=str(gguf_file))
    backbone.load_adapter(adapter, "main", 1.0)
    with pytest.raises(WeightsError, match="a quantized base would be rounded again"):
        backbone.adapters.fuse()
    for options in ({"transformer": "a.gguf"}, {"quantize": "int8"}):
        with pytest.raises(ValueError, match="fuse_adapters: false"):
            FluxKontextConfig(fuse_adapters=True, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int8", "transformer": "a.safetensors"}, "rounds what a folder holds, found the single file"),
        ({"quantize": "int8", "transformer": "a.gguf"}, "which is quantized already"),
        ({"quantize": "nf4", "memory": "low"}, "cannot travel block by block"),
    ],
)
def test_combinations_that_cannot_be_are_refused_with_the_recipe(options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FluxKontextConfig(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int8"}, r"backbone\.quantize=int8: the package torchao is not installed.*\[torchao\]"),
        ({"quantize": "float8"}, r"the package torchao is not installed.*backbone\.quantize=null"),
        ({"quantize": "nf4"}, r"backbone\.quantize=nf4: found the device cpu, expected cuda or xpu"),
        ({"transformer": "a.gguf"}, r"backbone\.transformer: the package gguf is not installed.*\[gguf\]'`$"),
    ],
)
def test_what_is_missing_is_told_before_weights_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=words) as caught:
        build(FluxKontextConfig(weights="./nowhere", device="cpu", **options))
    assert "\n" not in str(caught.value)


def test_4_bits_on_an_accelerator_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"bitsandbytes is not installed.*sigma-framework\[bitsandbytes\]"):
        quantization.require_quantization(FluxKontextConfig(quantize="nf4"), torch.device("cuda"))


def test_gguf_files_that_do_not_fit_are_refused(make_backbone: MakeBackbone, weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"

    def message() -> str:
        with pytest.raises(WeightsError) as caught:
            make_backbone(transformer=str(path))
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "is not a file here" in message()
    path.write_bytes(b"PK\x03\x04" + b"\0" * 64)
    assert "damaged or not a GGUF file" in message()
    write_gguf(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "does not fit the transformer of" in message()
    write_gguf({**weights, "x_embedder.weight": torch.ones(32, 96)}, path)
    assert "does not fit the transformer of" in message()
    write_gguf({name: value for name, value in weights.items() if "single" not in name}, path)
    assert "does not fit the transformer of" in message() or "lacks" in message()


def test_a_gguf_file_counts_as_it_is_stored(make_backbone: MakeBackbone, gguf_file: Path, tiny_folder: Path) -> None:
    config = FluxKontextConfig(weights=str(tiny_folder), transformer=str(gguf_file), device="cpu", dtype="float32")
    found = explain(config, FACTS)["memory_bytes"]
    plain = explain(FluxKontextConfig(weights=str(tiny_folder), dtype="float32"), FACTS)["memory_bytes"]
    parameters = list(make_backbone(transformer=str(gguf_file)).transformer.parameters())
    stored = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    whole = sum(p.numel() * p.element_size() for p in make_backbone().transformer.parameters())
    assert plain["weights"] - found["weights"] == pytest.approx(whole - stored, rel=0.05)
    assert found["peak_full"] < plain["peak_full"]


def test_full_scale_needs_less_with_fewer_bits() -> None:
    def memory(**options: str) -> dict[str, int]:
        return dict(explain(FluxKontextConfig(weights=FULL_SCALE, **options), FACTS)["memory_bytes"])

    plain, eight, four = memory(), memory(quantize="int8"), memory(quantize="nf4")
    shape_bytes = 11.9e9
    assert plain["weights"] - eight["weights"] == pytest.approx(shape_bytes, rel=0.01), "one byte in two"
    assert plain["weights"] - four["weights"] == pytest.approx((2 - 0.5625) * shape_bytes, rel=0.01)
    for profile in ("peak_full", "peak_balanced", "peak_low"):
        assert four[profile] <= eight[profile] <= plain[profile]
    assert four["peak_balanced"] < 16e9, "a 16 GB card"


@pytest.mark.slow
def test_torchao_s_kinds(tmp_path: Path) -> None:
    """In a process of its own: whatever imports diffusers also imports torchao where it is, 1.5 s each time."""
    folder = Path(sys.prefix) / "optional"
    assert (folder / "torchao").is_dir(), f"make test puts it there: pip install --no-deps --target {folder} torchao"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'cases'}", CASES],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=CASES.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout


def test_a_missing_gguf_file_is_counted_whole() -> None:
    whole = transformer_bytes(FluxKontextConfig(weights=FULL_SCALE), SHAPE)
    assert transformer_bytes(FluxKontextConfig(weights=FULL_SCALE, transformer="nowhere.gguf"), SHAPE) == whole


SHAPE = {
    "in_channels": 64, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 16, "pooled_projection_dim": 16,
}  # fmt: skip
