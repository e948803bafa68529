"""What our loop costs over the bare transformer, and per call over diffusers' ``FluxKontextPipeline``.

One process, one thread, interleaved, process CPU time, minimum of five. The step is measured at the proportions of full
scale with three identities (tokens and width divided by eight); the fixed cost per call is that of a call with one
reference on a tiny transformer, less its steps: the intercept of calls with 1 and 5 steps. Text encoders and VAE answer
from memory: both sides run the same networks once, 50 ms on which a busy machine puts more noise than there is to see.
Goals: the step at most 1.03 of the transformer's forward at equal tokens; the fixed cost at most the pipeline's.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.flux_kontext.loading import FluxKontextParts, load_parts
from sigma_framework import SampleRequest, TextTokens, Tokens
from sigma_samplers.config import GenerateConfig
from sigma_samplers.generate import GenerateSampler

REPEATS = 5
SIDE = 96
"""Side of the picture of the fixed cost, pixels."""


def fastest(works: Sequence[Callable[[], object]], repeats: int = REPEATS) -> list[float]:
    """Smallest process CPU time of each, one after the other in every round."""
    best = [float("inf")] * len(works)
    for _ in range(repeats + 1):  # the first round warms up
        for index, work in enumerate(works):
            start = time.process_time()
            work()
            best[index] = min(best[index], time.process_time() - start)
    return best


def eighth_scale() -> FluxTransformer2DModel:
    """Width 384: a step keeps full scale's proportion of attention to linear layers; fewer blocks of each kind."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            in_channels=64,
            num_layers=2,
            num_single_layers=4,
            attention_head_dim=64,
            num_attention_heads=6,
            joint_attention_dim=512,
            pooled_projection_dim=96,
            guidance_embeds=True,
            axes_dims_rope=(8, 28, 28),
        )
    return transformer.to(torch.bfloat16).requires_grad_(False).eval()


def measure_step(parts: FluxKontextParts) -> tuple[float, float]:
    """Seconds of one of our steps and of the bare forward on the same tokens, text 64, X 512, I^S 384, I^C 512."""
    backbone = FluxKontextBackbone(replace(parts, transformer=eighth_scale()), FluxKontextConfig(device="cpu"))
    rows = [(1, 16, 32), (1, 48, 8), (1, 16, 32)]
    sequence = [
        Tokens(values=torch.randn(1, height * width, 64), ids=torch.rand(height * width, 3).round())
        for _, height, width in rows
    ]
    x, conditions = sequence[0], sequence[1:]
    text = TextTokens(values=torch.randn(1, 64, 512), ids=torch.zeros(64, 3), pooled=torch.randn(1, 96))
    t = torch.tensor([0.5])
    bare: dict[str, Any] = {
        "hidden_states": torch.cat([one.values for one in sequence], dim=1).to(torch.bfloat16),
        "timestep": t,
        "guidance": torch.tensor([2.5]),
        "pooled_projections": text.pooled.to(torch.bfloat16) if text.pooled is not None else None,
        "encoder_hidden_states": text.values.to(torch.bfloat16),
        "txt_ids": text.ids,
        "img_ids": torch.cat([one.ids for one in sequence]),
        "return_dict": False,
    }
    ours, forward = fastest(
        [lambda: backbone.velocity(x, t, text, conditions, 2.5), lambda: backbone.transformer(**bare)]
    )
    return ours, forward


def tiny(config: Mapping[str, Any]) -> FluxTransformer2DModel:
    """A transformer of the same inputs whose steps cost next to nothing."""
    small = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1}
    return FluxTransformer2DModel.from_config({**config, **small}).requires_grad_(False).eval()


def remembering(parts: FluxKontextParts) -> FluxKontextParts:
    """Text encoders and VAE give their first answer again; the answer does not matter here."""
    for model, method in (
        (parts.text_encoder, "forward"),
        (parts.text_encoder_2, "forward"),
        (parts.vae, "encode"),
        (parts.vae, "decode"),
    ):
        setattr(model, method, once(getattr(model, method)))
    return parts


def once(work: Callable[..., Any]) -> Callable[..., Any]:
    """``work`` with one answer per set of keywords."""
    answers: dict[tuple[str, ...], Any] = {}

    def remembered(*inputs: Any, **options: Any) -> Any:
        key = tuple(f"{name}={value}" for name, value in options.items() if not torch.is_tensor(value))
        if key not in answers:
            answers[key] = work(*inputs, **options)
        return answers[key]

    return remembered


def measure_call(parts: FluxKontextParts) -> tuple[float, float]:
    """Fixed seconds per call of our sampler and of the pipeline, beside the networks, with one reference."""
    parts = remembering(replace(parts, transformer=tiny(parts.transformer.config)))
    backbone = FluxKontextBackbone(parts, FluxKontextConfig(device="cpu"))
    pipeline: FluxKontextPipeline = backbone.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    reference = torch.rand(1, 3, SIDE, SIDE)
    length = int(parts.tokenizer_2.model_max_length)
    sampler = GenerateSampler(GenerateConfig())

    def ours(steps: int) -> torch.Tensor:
        return sampler.sample(
            backbone,
            SampleRequest(
                text=backbone.encode_prompt(["a red cube"]),
                conditions=(backbone.encode_image(reference * 2 - 1, "identity"),),
                size_hw=(SIDE, SIDE),
                steps=steps,
                generators=(torch.Generator().manual_seed(0),),
            ),
        )

    def theirs(steps: int) -> Any:
        return pipeline(
            image=reference,
            prompt="a red cube",
            height=SIDE,
            width=SIDE,
            max_area=SIDE * SIDE,
            _auto_resize=False,
            num_inference_steps=steps,
            max_sequence_length=length,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images

    few, many = 1, 5
    times = fastest([lambda: ours(few), lambda: theirs(few), lambda: ours(many), lambda: theirs(many)], 3 * REPEATS)
    slope = 1 / (many - few)
    return times[0] - (times[2] - times[0]) * slope * few, times[1] - (times[3] - times[1]) * slope * few


@torch.no_grad()
def main() -> None:
    """Prints both ratios."""
    torch.set_num_threads(1)
    parts = load_parts("pocket", None, torch.float32)
    ours, forward = measure_step(parts)
    print(f"one step, 1/8 scale, N=3: ours {ours * 1e3:.1f} ms, bare transformer {forward * 1e3:.1f} ms", end="; ")
    print(f"ratio {ours / forward:.3f} (goal at most 1.03)")
    mine, theirs = measure_call(parts)
    print(f"fixed cost of a call beside the networks, one reference: ours {mine * 1e3:.2f} ms", end=", ")
    print(f"pipeline {theirs * 1e3:.2f} ms; ratio {mine / theirs:.2f} (goal at most 1)")


if __name__ == "__main__":
    main()
