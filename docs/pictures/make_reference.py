"""Single-reference pictures by diffusers' own pipeline on the shipped folder: python docs/pictures/make_reference.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from sigma_backbones import pocket_folder
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework.picture_grid import grid_picture

SIDE, STEPS, SCENES = 128, 28, 6
COMPOSE = "Place these subjects to compose: "  # the words that the base was trained with
TARGET = Path(__file__).with_name("gallery") / "reference.png"


def main() -> None:
    """One row per test scene of one subject: its identity picture, what the pipeline makes of it, the truth."""
    pipe = FluxKontextPipeline.from_pretrained(pocket_folder(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    source = ToyboxSource(ToyboxConfig(split="test", min_subjects=1, max_subjects=1))
    rows = []
    for index in range(SCENES):
        example = source[index]
        made = pipe(
            image=Image.fromarray(example.identities[0]),
            prompt=COMPOSE + example.prompt_full,
            height=SIDE,
            width=SIDE,
            max_area=SIDE * SIDE,
            _auto_resize=False,
            max_sequence_length=pipe.tokenizer_2.model_max_length,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(index),
        ).images[0]
        rows.append([example.identities[0], np.asarray(made), example.target])
    TARGET.parent.mkdir(exist_ok=True)
    Image.fromarray(grid_picture(rows, ("reference", "result", "truth"))).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
