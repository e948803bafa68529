"""Several adapters with weights, fused or beside the base, exchanged in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxKontextPipeline

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_framework import WeightsError
from sigma_framework.adapter_export import export_adapter

MakeBackbone = Callable[..., FluxKontextBackbone]


def answer(backbone: FluxKontextBackbone) -> torch.Tensor:
    with torch.no_grad():
        noise = backbone.noise((32, 32), [torch.Generator().manual_seed(0)])
        return backbone.velocity(noise, torch.tensor([0.5]), backbone.encode_prompt(["a cube"]), [])


@pytest.fixture
def make_adapter(make_backbone: MakeBackbone, tmp_path: Path) -> Callable[..., Path]:
    def make(seed: int, rank: int = 4, alpha: float = 4.0, targets: list[str] | None = None) -> Path:
        backbone = make_backbone()
        backbone.add_adapter("sigma", rank, alpha, targets, 0)
        generator = torch.Generator().manual_seed(seed)
        for parameter in backbone.trainable_parameters().values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        return backbone.save_adapter(tmp_path / f"adapter-{seed}", "sigma", {})

    return make


def loaded(make_backbone: MakeBackbone, *adapters: tuple[Path, float], **options: object) -> FluxKontextBackbone:
    backbone = make_backbone(**options)
    for index, (path, weight) in enumerate(adapters):
        backbone.load_adapter(path, f"a{index}", weight)
    return backbone


def test_weights_can_be_changed(make_backbone: MakeBackbone, make_adapter: Callable[..., Path]) -> None:
    one, two = make_adapter(1), make_adapter(2, rank=2, targets=["x_embedder"])
    backbone = loaded(make_backbone, (one, 1.0), (two, 0.5))
    backbone.adapters.weigh({"a0": 0.25})
    assert torch.allclose(answer(backbone), answer(loaded(make_backbone, (one, 0.25), (two, 0.5))), atol=1e-6)
    assert backbone.adapters.weights == {"a0": 0.25, "a1": 0.5}
    with pytest.raises(WeightsError, match="not loaded; there are: a0, a1"):
        backbone.adapters.weigh({"b": 1.0})


def test_fused_is_the_same_and_comes_apart_again(
    make_backbone: MakeBackbone, make_adapter: Callable[..., Path]
) -> None:
    pair = (make_adapter(1), 0.8), (make_adapter(2, rank=2), 0.5)
    base, beside = answer(make_backbone()), answer(loaded(make_backbone, *pair))
    backbone = loaded(make_backbone, *pair, fuse_adapters=True)
    fused = answer(backbone)
    assert backbone.adapters.fused
    assert torch.allclose(fused, beside, atol=1e-4)
    assert (fused - base).abs().max() > 1e-2
    backbone.adapters.weigh({"a0": 0.0, "a1": 0.0})
    assert torch.allclose(answer(backbone), base, atol=1e-4), "weights take effect on what was fused"


def test_weakened_ones_are_those_of_smaller_weights(
    make_backbone: MakeBackbone, make_adapter: Callable[..., Path]
) -> None:
    one, two = make_adapter(1), make_adapter(2, rank=2, targets=["x_embedder"])
    backbone = loaded(make_backbone, (one, 1.0), (two, 0.5))
    before = answer(backbone)
    with backbone.dim_adapters(0.5):
        weak = answer(backbone)
    assert torch.allclose(weak, answer(loaded(make_backbone, (one, 0.5), (two, 0.25))), atol=1e-6)
    assert torch.equal(answer(backbone), before)
    with pytest.raises(KeyError), backbone.dim_adapters(0.5):
        raise KeyError
    assert torch.equal(answer(backbone), before), "also after an error inside"


def test_weakened_ones_are_not_fused_again(
    make_backbone: MakeBackbone, make_adapter: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    pair = (make_adapter(1), 1.0)
    beside, backbone = loaded(make_backbone, pair), loaded(make_backbone, pair, fuse_adapters=True)
    for _ in range(2):
        with backbone.dim_adapters(0.5), beside.dim_adapters(0.5):
            assert torch.equal(answer(backbone), answer(beside))
        assert torch.equal(answer(backbone), answer(beside)), "nothing was added into the base, not even for a pass"
    assert caplog.text.count("adapters stay beside the base's weights") == 1
    with make_backbone(fuse_adapters=True).dim_adapters(0.5):
        pass
    assert caplog.text.count("stay beside") == 1, "there is nothing to weaken"


def test_what_is_trained_is_not_fused(backbone: FluxKontextBackbone) -> None:
    backbone.add_adapter("main", 2, 2.0, None, 0)
    with pytest.raises(WeightsError, match="it is being trained"):
        backbone.adapters.fuse()


@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("fused", [False, True])
def test_an_adapter_is_exchanged(
    make_backbone: MakeBackbone, make_adapter: Callable[..., Path], rank: int, fused: bool
) -> None:
    first, second = make_adapter(1), make_adapter(2, rank=rank, alpha=6.0)
    backbone = loaded(make_backbone, (first, 0.7), fuse_adapters=fused)
    before = answer(backbone)
    tensors = {name: p.data_ptr() for name, p in backbone.transformer.named_parameters() if ".lora_" in name}
    backbone.swap_adapter(second, "a0")
    assert torch.allclose(answer(backbone), answer(loaded(make_backbone, (second, 0.7))), atol=1e-4)
    if rank == 4:
        kept = {name: p.data_ptr() for name, p in backbone.transformer.named_parameters() if ".lora_" in name}
        assert kept == tensors, "the same tensors: nothing that was compiled has to be compiled again"
    backbone.swap_adapter(first, "a0")
    assert torch.allclose(answer(backbone), before, atol=1e-4)


def test_a_refused_exchange_changes_nothing(
    make_backbone: MakeBackbone, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    backbone = loaded(make_backbone, (make_adapter(1), 1.0))
    before = answer(backbone)
    (tmp_path / "bad.safetensors").write_bytes(b"no adapter")
    with pytest.raises(WeightsError, match="damaged"):
        backbone.swap_adapter(tmp_path / "bad.safetensors", "a0")
    with pytest.raises(WeightsError, match="no loaded adapter of this name"):
        backbone.swap_adapter(make_adapter(2), "other")
    assert torch.equal(answer(backbone), before)


@pytest.mark.parametrize("alpha", [4.0, 8.0])
def test_the_export_gives_the_same_result_in_diffusers_and_here(
    make_backbone: MakeBackbone, make_adapter: Callable[..., Path], tiny_folder: Path, alpha: float
) -> None:
    adapter = make_adapter(1, alpha=alpha)
    exported = export_adapter(adapter, "comfyui")
    wanted = answer(loaded(make_backbone, (adapter, 1.0)))
    assert torch.allclose(answer(loaded(make_backbone, (exported, 1.0))), wanted, atol=1e-5)
    pipeline = FluxKontextPipeline.from_pretrained(tiny_folder, dtype=torch.float32)
    pipeline.load_lora_weights(str(exported.parent), weight_name=exported.name)
    ours = make_backbone()
    noise, text = ours.noise((32, 32), [torch.Generator().manual_seed(0)]), ours.encode_prompt(["a cube"])
    with torch.no_grad():
        theirs = pipeline.transformer(
            hidden_states=noise.values,
            timestep=torch.tensor([0.5]),
            pooled_projections=text.pooled,
            encoder_hidden_states=text.values,
            txt_ids=text.ids,
            img_ids=noise.ids,
            return_dict=False,
        )[0]
    assert torch.allclose(theirs, wanted, atol=1e-5)
