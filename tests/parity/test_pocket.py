"""The shipped model in diffusers, with its adapter and with one of ``curriculum.yaml``: the same answer as ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxKontextPipeline

from sigma_backbones import pocket_folder
from sigma_backbones.flux_kontext.backbone import build
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_framework import Framework, Tokens

ROOT = Path(__file__).parents[2]
SMALL = [
    "stages.s1.steps=1", "stages.s2.steps=1", "stages.s3.steps=1", "train.batch_size=1", "train.validation_scenes=1",
    "train.grid_scenes=1", "train.grid_steps=1", "train.num_workers=0", "train.lora.rank=4", "train.lora.alpha=4",
    "train.optimizer.d0=0.01", "backbone.device=cpu",
]  # fmt: skip
"""A step per stage, with a first guess of Prodigy's that one step can be seen of."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``curriculum.yaml`` leaves."""
    folder = tmp_path_factory.mktemp("curriculum") / "run"
    Framework.load(ROOT / "recipes" / "curriculum.yaml", [*SMALL, f"run.dir={folder}"]).run()
    return folder / "adapter"


def test_an_adapter_of_the_curriculum_in_diffusers(trained: Path) -> None:
    assert_equal_answers(trained, 1e-3)  # one step a stage


def test_diffusers_loads_pocket_and_its_adapter() -> None:
    assert_equal_answers(pocket_folder() / "adapter", 1e-2)


@torch.no_grad()
def assert_equal_answers(adapter: Path, difference: float) -> None:
    """Our velocity with the adapter is that of diffusers' transformer with it, and differs so far from that without."""
    ours = build(FluxKontextConfig(device="cpu"))
    ours.load_adapter(adapter, "main", 1.0)
    theirs = FluxKontextPipeline.from_pretrained(pocket_folder(), dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 96, 96, generator=generator) * 2 - 1
    x = ours.noise((96, 96), [generator])
    text = ours.encode_prompt(["Place these subjects in a grey floor"])
    conditions = [ours.encode_image(pictures[:1], "identity"), ours.encode_image(pictures[1:], "spatial")]
    mine = ours.velocity(x, torch.tensor([0.7]), text, conditions)

    def answer(sequence: list[Tokens]) -> torch.Tensor:
        return theirs.transformer(
            hidden_states=torch.cat([one.values for one in sequence], dim=1),
            timestep=torch.tensor([0.7]),
            pooled_projections=text.pooled,
            encoder_hidden_states=text.values,
            txt_ids=text.ids,
            img_ids=torch.cat([one.ids for one in sequence]),
            return_dict=False,
        )[0][:, : x.length]

    without = answer([x, *conditions])
    theirs.load_lora_weights(str(adapter), weight_name="pytorch_lora_weights.safetensors")
    assert torch.allclose(mine, answer([x, *conditions]), atol=1e-5)
    assert (mine - without).abs().max() > difference, "the adapter matters"
