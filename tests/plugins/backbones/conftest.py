"""A tiny checkpoint of FLUX.1 Kontext's architecture, awake: its output and gates are not zero."""

from __future__ import annotations

from collections.abc import Callable
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
