"""What one loop for all subjects saves: by the FLOP model at full size, and measured at one eighth.

    python bench/baselines.py [--write docs/performance.md]

Measured are single steps on one thread, in one process, interleaved, as process CPU time (the smallest of several
rounds): ours through the backbone, the Fill model's as its pipeline calls it. A call is 28 steps of ours; for each
subject 50 of the Fill model (its pipeline's default) or 28 of an insertion with our backbone; 28 for a first picture.
Text encoders, VAE, Redux and the paper's ControlNet on the insertions are not counted, which favours the baselines. At
an eighth of the tokens and of the width, with heads of full size, attention, its softmax and linear layers keep their
proportion.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from denoise_overhead import fastest
from diffusers import FluxTransformer2DModel
from page import write_between

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.flux_kontext.loading import FluxKontextParts, load_parts
from sigma_framework import TextTokens, Tokens

WIDTH, BLOCKS = 3072, 57
"""FLUX.1's transformer at full size."""
TEXT, TARGET = 512, 4096
"""Tokens of a prompt and of a picture of 1024 pixels."""
FILL = 2 * (768 // 16) ** 2 + TEXT + 729
"""Tokens of a diptych of two squares of 768 pixels, with an empty text and Redux's tokens."""
STEPS, FILL_STEPS = 28, 50
CONTROL_BLOCKS = 6
"""Blocks of FLUX.1-dev-ControlNet-Union-Pro-2.0."""
EIGHTH = 8
ROUNDS = 7
SUBJECTS, SIDES = (1, 5, 10), (512, 256)
GOALS = {(5, 512): 3.6, (10, 512): 4.3, (5, 256): 5.2, (10, 256): 8.5}
"""Measured ratio of insert_anything to one loop, at least."""
MARKS = ("<!-- baselines.py -->", "<!-- end of baselines.py -->")


def flop(tokens: int) -> float:
    """Of one step at full size: 24 width^2 per token and block, 4 width per pair of tokens and block."""
    return BLOCKS * (24.0 * WIDTH**2 * tokens + 4.0 * WIDTH * tokens**2)


def model_ratios(subjects: int, side: int) -> dict[str, float]:
    """FLOP of a call of each baseline over those of one loop."""
    block = (side // 16) ** 2
    first = STEPS * flop(TEXT + TARGET)
    ours = STEPS * flop(TEXT + 2 * TARGET + subjects * block)
    control = CONTROL_BLOCKS / BLOCKS * flop(TEXT + TARGET)
    return {
        "insert_anything": (first + subjects * FILL_STEPS * flop(FILL)) / ours,
        "insert_anything, 28 steps": (first + subjects * STEPS * flop(FILL)) / ours,
        "iterative_insertion": (first + subjects * STEPS * flop(TEXT + 2 * TARGET + block)) / ours,
        "kontext_depth_controlnet": STEPS * (flop(TEXT + TARGET + subjects * block) + control) / ours,
    }


def eighth_scale(channels: int) -> FluxTransformer2DModel:
    """Three heads of 128 in the place of 24: smaller heads would take a larger share of softmax than full size does."""
    made = FluxTransformer2DModel(
        in_channels=channels,
        out_channels=64,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=128,
        num_attention_heads=3,
        joint_attention_dim=512,
        pooled_projection_dim=96,
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )
    return made.to(torch.bfloat16).requires_grad_(False).eval()


def rows_of(count: int) -> Tokens:
    """Random tokens."""
    return Tokens(values=torch.randn(1, count, 64), ids=torch.rand(count, 3).mul(32).round())


def our_step(parts: FluxKontextParts, identities: int | None) -> Callable[[], object]:
    """One step on X, ``I^S`` and ``I^C``; None: on X alone, as for a first picture.

    A backbone keeps what a loop computes once (rotary embedding, condition tokens) for its last few sequences. Cases
    that took turns on one backbone would drive out one another's and pay for it at every step, which no loop does.
    """
    backbone = FluxKontextBackbone(replace(parts, transformer=eighth_scale(64)), FluxKontextConfig(device="cpu"))
    text = TextTokens(
        values=torch.randn(1, TEXT // EIGHTH, 512), ids=torch.zeros(TEXT // EIGHTH, 3), pooled=torch.randn(1, 96)
    )
    x, t = rows_of(TARGET // EIGHTH), torch.tensor([0.5])
    conditions = [] if identities is None else [rows_of(identities // EIGHTH), rows_of(TARGET // EIGHTH)]
    return lambda: backbone.velocity(x, t, text, conditions, 2.5)


def fill_step() -> Callable[[], object]:
    """One step as ``FluxFillPipeline`` calls its transformer: 64 values of latents, 320 of the masked picture."""
    transformer = eighth_scale(384)
    tokens, text = 2 * (768 // 16) ** 2 // EIGHTH, (TEXT + 729) // EIGHTH
    latents, masked = torch.randn(1, tokens, 64).bfloat16(), torch.randn(1, tokens, 320).bfloat16()
    ids, text_ids = torch.rand(tokens, 3).mul(32).round(), torch.zeros(text, 3)
    embeds, pooled = torch.randn(1, text, 512).bfloat16(), torch.randn(1, 96).bfloat16()
    return lambda: transformer(
        hidden_states=torch.cat([latents, masked], dim=2),
        timestep=torch.tensor([0.5]),
        guidance=torch.tensor([30.0]),
        pooled_projections=pooled,
        encoder_hidden_states=embeds,
        txt_ids=text_ids,
        img_ids=ids,
        return_dict=False,
    )


def measured_ratios() -> dict[tuple[int, int], dict[str, float]]:
    """Process CPU time of a call of each baseline over that of one loop."""
    parts = load_parts("pocket", None, torch.float32)
    cases = [(count, side) for side in SIDES for count in SUBJECTS]
    works = [our_step(parts, None), fill_step()]
    works += [our_step(parts, count * (side // 16) ** 2) for count, side in cases]
    alone, fill, *loops = fastest(works, ROUNDS)
    print("milliseconds per step: " + ", ".join(f"{1e3 * one:.0f}" for one in (alone, fill, *loops)))
    one = dict(zip(cases, loops, strict=True))
    found = {}
    for (count, side), step in one.items():
        ours, first = STEPS * step, STEPS * alone
        found[count, side] = {
            "insert_anything": (first + count * FILL_STEPS * fill) / ours,
            "insert_anything, 28 steps": (first + count * STEPS * fill) / ours,
            "iterative_insertion": (first + count * STEPS * one[1, side]) / ours,
        }
    return found


def table(found: dict[tuple[int, int], dict[str, float]]) -> str:
    """Markdown: measured ratios beside the model's."""
    lines = [
        "| baseline / one loop | identity | N | FLOP model, full size | measured, 1/8 | goal, measured |",
        "|---|---|---|---|---|---|",
    ]
    for name in model_ratios(1, 512):
        for (count, side), ratios in found.items():
            goal = GOALS.get((count, side)) if name == "insert_anything" else None
            cells = [name, str(side), str(count), f"{model_ratios(count, side)[name]:.2f}"]
            cells += [f"{ratios[name]:.2f}" if name in ratios else "-", "-" if goal is None else f"at least {goal}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@torch.no_grad()
def main() -> None:
    """Prints the table, and puts it into a page with ``--write``."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--write", type=Path, help="page whose table is replaced")
    arguments = reader.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    text = table(measured_ratios())
    print(text)
    if arguments.write is not None:
        write_between(arguments.write, MARKS, text)


if __name__ == "__main__":
    main()
