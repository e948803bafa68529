"""A tiny checkpoint of FLUX.1 Kontext's architecture, awake: its output and gates are not zero."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone, build
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.pocket_training.architecture import build_pipeline
from sigma_backbones.pocket_training.options import PocketSizes
from sigma_framework import Camera, Example, SubjectAnnotation

SIZES = PocketSizes(
    heads=2, axes=(4, 6, 6), double_blocks=2, single_blocks=2, text_width=16, pooled_width=16, text_layers=1,
    text_heads=2, vae_width=8,
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    pipeline = build_pipeline(0, SIZES)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in pipeline.transformer.parameters():
            if not parameter.any():
                parameter.data.normal_(std=0.2)
    pipeline.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def make_backbone(tiny_folder: Path) -> Callable[..., FluxKontextBackbone]:
    def make(**options: object) -> FluxKontextBackbone:
        return build(FluxKontextConfig(**{"weights": str(tiny_folder), "device": "cpu", **options}))

    return make


@pytest.fixture
def backbone(make_backbone: Callable[..., FluxKontextBackbone]) -> FluxKontextBackbone:
    return make_backbone()


@pytest.fixture
def example() -> Example:
    """Two subjects on 64 x 64 pixels."""
    return draw_example(0)


@pytest.fixture
def examples() -> tuple[Example, ...]:
    """Eight different ones."""
    return tuple(draw_example(seed) for seed in range(8))


@pytest.fixture
def tiny_sizes() -> PocketSizes:
    return SIZES


@pytest.fixture
def original_names() -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Gives the weights of a ``FluxTransformer2DModel`` the names of FLUX.1's own code, e.g. ``double_blocks.0...``."""
    return as_original


ORIGINAL_NAMES = [
    (r"time_text_embed\.(time)step_embedder\.", "time_in."), (r"time_text_embed\.text_embedder\.", "vector_in."),
    (r"time_text_embed\.guidance_embedder\.", "guidance_in."), (r"linear_1", "in_layer"), (r"linear_2", "out_layer"),
    (r"^context_embedder", "txt_in"), (r"^x_embedder", "img_in"), (r"^proj_out", "final_layer.linear"),
    (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
    (r"^(single_transformer_blocks\.\d+)\.norm\.linear", r"\1.modulation.lin"),
    (r"^(single_transformer_blocks\.\d+)\.proj_out", r"\1.linear2"),
    (r"^(single_transformer_blocks\.\d+)\.attn\.norm_q\.weight", r"\1.norm.query_norm.scale"),
    (r"^(single_transformer_blocks\.\d+)\.attn\.norm_k\.weight", r"\1.norm.key_norm.scale"),
    (r"norm1\.linear", "img_mod.lin"), (r"norm1_context\.linear", "txt_mod.lin"),
    (r"ff\.net\.0\.proj", "img_mlp.0"), (r"ff\.net\.2", "img_mlp.2"),
    (r"ff_context\.net\.0\.proj", "txt_mlp.0"), (r"ff_context\.net\.2", "txt_mlp.2"),
    (r"attn\.to_out\.0", "img_attn.proj"), (r"attn\.to_add_out", "txt_attn.proj"),
    (r"attn\.norm_q\.weight", "img_attn.norm.query_norm.scale"),
    (r"attn\.norm_k\.weight", "img_attn.norm.key_norm.scale"),
    (r"attn\.norm_added_q\.weight", "txt_attn.norm.query_norm.scale"),
    (r"attn\.norm_added_k\.weight", "txt_attn.norm.key_norm.scale"),
    (r"^single_transformer_blocks", "single_blocks"), (r"^transformer_blocks", "double_blocks"),
]  # fmt: skip
"""Patterns in diffusers' names, and what FLUX.1's code calls it; in this order."""
STACKED = {
    "single_transformer_blocks": {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")},
    "transformer_blocks": {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    },
}
"""One matrix there, several here."""


def as_original(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    left, renamed = dict(weights), {}
    for blocks, layers in STACKED.items():
        count = len({name.split(".")[1] for name in weights if name.startswith(f"{blocks}.")})
        for block, (stacked, parts), kind in product(range(count), layers.items(), ("weight", "bias")):
            renamed[f"{blocks}.{block}.{stacked}.{kind}"] = torch.cat(
                [left.pop(f"{blocks}.{block}.{part}.{kind}") for part in parts]
            )
    for kind in ("weight", "bias"):
        scale, shift = left[f"norm_out.linear.{kind}"].chunk(2)
        left[f"norm_out.linear.{kind}"] = torch.cat([shift, scale])
    found = {}
    for name, value in {**left, **renamed}.items():
        for pattern, original in ORIGINAL_NAMES:
            name = re.sub(pattern, original, name)  # noqa: PLW2901  one pattern after another
        found[name] = value.contiguous()
    return found


def draw_example(seed: int, side: int = 64, subjects: int = 2) -> Example:
    rng = np.random.default_rng(seed)
    camera = Camera.from_fov_y(50, side, side)
    annotations = []
    for index in range(subjects):
        mask = np.zeros((side, side), dtype=bool)
        mask[index * 16 : index * 16 + 24, : 24 + 8 * index] = True
        box = (0.0, 16.0 * index, 24.0 + 8 * index, 16.0 * index + 24)
        annotations.append(
            SubjectAnnotation(mask=mask, depth=None, camera=camera, box2d=box, box3d=None, caption="a red cube")
        )
    return Example(
        target=rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        identities=tuple(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(subjects)),
        subjects=tuple(annotations),
        prompt_full="a grey floor with a red cube",
        prompt_background="a grey floor",
        key=f"example-{seed}",
    )
