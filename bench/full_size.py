"""FLUX.1 Kontext at full size with random weights: seconds, FLOP/s and memory per step, against the estimates.

On a GPU with 48 GB or more: the whole transformer (11.9 B, bfloat16), 1024 pixels, one, five and ten subjects with
identity images of 256 and 512 pixels, then one LoRA training step (rank 128) with and without checkpointing. Elsewhere:
the same proportions at an eighth (tokens and width), fewer blocks, on the CPU, where only the ratios mean anything.

    python bench/full_size.py [--write docs/performance.md]

FLOP: a linear layer 2 x inputs x outputs per token, attention 4 x width per pair of tokens and block. They are compared
with a matrix product of random bfloat16 numbers timed in the same run.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from page import write_between

from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.explain import explain
from sigma_backbones.flux_kontext.loading import FluxKontextParts, load_parts
from sigma_backbones.flux_kontext.parameter_counts import FULL_SCALE_TRANSFORMER
from sigma_framework import TextTokens, Tokens

SIDE, TEXT = 1024, 512
SUBJECTS, IDENTITY_SIDES = (1, 5, 10), (256, 512)
GPU_BYTES = 48e9
MARKS = ("<!-- full_size.py -->", "<!-- end -->")
"""Between these the table of ``--write`` goes."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is measured: full size, or its proportions on the CPU."""

    device: torch.device
    divisor: int
    """Of tokens and of the width; the proportion of attention to linear layers stays."""
    double: int
    single: int
    repeats: int
    rank: int

    def transformer(self) -> FluxTransformer2DModel:
        """Random weights in bfloat16, made on the device."""
        heads = 24 if self.divisor == 1 else 6
        head = 128 if self.divisor == 1 else 64
        shape: dict[str, Any] = {
            **FULL_SCALE_TRANSFORMER,
            "num_layers": self.double,
            "num_single_layers": self.single,
            "num_attention_heads": heads,
            "attention_head_dim": head,
            "joint_attention_dim": 4096 // self.divisor,
            "pooled_projection_dim": 768 // self.divisor,
            "axes_dims_rope": (16, 56, 56) if head == 128 else (8, 28, 28),
        }
        torch.set_default_dtype(torch.bfloat16)
        try:
            with self.device:
                return FluxTransformer2DModel(**shape).requires_grad_(False).eval()
        finally:
            torch.set_default_dtype(torch.float32)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    tokens: int
    seconds: float
    flop: float
    bytes_peak: int | None
    bytes_estimated: int | None


def choose_scale() -> Scale:
    """Full size where a GPU has room for it."""
    if torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > GPU_BYTES:
        return Scale(device=torch.device("cuda"), divisor=1, double=19, single=38, repeats=3, rank=128)
    return Scale(device=torch.device("cpu"), divisor=8, double=1, single=2, repeats=2, rank=16)


def timed(work: Callable[[], object], scale: Scale) -> float:
    """Smallest time of a few calls: GPU events, or this process's CPU time."""
    best = float("inf")
    for _ in range(scale.repeats + 1):  # the first one warms up
        if scale.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        else:
            began = time.process_time()
            work()
            best = min(best, time.process_time() - began)
    return best


def matrix_product(scale: Scale) -> float:
    """FLOP/s of a large product of random bfloat16 numbers; zeros would run faster than anything real."""
    side = 8192 if scale.divisor == 1 else 1024
    one, other = (torch.randn(side, side, device=scale.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / timed(lambda: one @ other, scale)


def step_flop(scale: Scale, tokens: int, width: int) -> float:
    """Of a forward pass: 24 width^2 per token and block, 4 width per pair of tokens and block."""
    blocks = scale.double + scale.single
    return blocks * (24.0 * width**2 * tokens + 4.0 * width * tokens**2)


def sequence(scale: Scale, subjects: int, side: int) -> tuple[Tokens, list[Tokens], TextTokens]:
    """Random tokens of X, I^S and I^C, and of a text, in the numbers of full scale over the divisor."""
    joint, pooled = 4096 // scale.divisor, 768 // scale.divisor

    def rows(count: int) -> Tokens:
        ids = torch.zeros(count, 3, device=scale.device)
        ids[:, 1] = torch.arange(count, device=scale.device) // 8
        ids[:, 2] = torch.arange(count, device=scale.device) % 8
        return Tokens(values=torch.randn(1, count, 64, device=scale.device), ids=ids)

    target = (SIDE // 16) ** 2 // scale.divisor
    identity = subjects * (side // 16) ** 2 // scale.divisor
    text = TextTokens(
        values=torch.randn(1, TEXT // scale.divisor, joint, device=scale.device),
        ids=torch.zeros(TEXT // scale.divisor, 3, device=scale.device),
        pooled=torch.randn(1, pooled, device=scale.device),
    )
    return rows(target), [rows(identity), rows(target)], text


def measured(name: str, scale: Scale, width: int, tokens: int, work: Callable[[], object], **more: Any) -> Row:
    """Time, and on a GPU the peak of what was allocated."""
    if scale.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(work, scale)
    peak = torch.cuda.max_memory_allocated() if scale.device.type == "cuda" else None
    flop = step_flop(scale, tokens, width) * more.get("passes", 1)
    return Row(
        name=name, tokens=tokens, seconds=seconds, flop=flop, bytes_peak=peak, bytes_estimated=more.get("estimated")
    )


def estimated(subjects: int, side: int, **options: Any) -> int:
    """What ``--explain`` says of the transformer alone: this measurement has no text encoders and no VAE."""
    train = bool(options.pop("train", False))
    facts = {"size_hw": (SIDE, SIDE), "identity_size": side, "subjects": subjects, "batch_size": 1}
    facts |= {"task": "train" if train else "generate", "rank": 128 if train else 0}
    found = explain(FluxKontextConfig(weights=FULL_SCALE, dtype="bfloat16", **options), facts)
    adapter = found["parameters"]["adapter"] * 4 * (2 if train else 1)  # weights and gradients; no optimizer here
    return int(2 * found["parameters"]["transformer"] + adapter + found["memory_bytes"]["activations"])


def rows_of(scale: Scale, parts: FluxKontextParts) -> Iterator[Row]:
    """Generation for every N and identity size, then training of the smallest."""
    transformer = scale.transformer()
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    parts = replace(parts, transformer=transformer)
    backbone = FluxKontextBackbone(parts, FluxKontextConfig(device=str(scale.device)))
    t = torch.tensor([0.5], device=scale.device)
    x, _, text = sequence(scale, 1, 16)
    with torch.no_grad():
        alone = x.length + text.values.shape[1]
        yield measured("text to image", scale, width, alone, lambda: backbone.velocity(x, t, text, [], 2.5))
        for side in IDENTITY_SIDES:
            for count in SUBJECTS:
                x, conditions, text = sequence(scale, count, side)
                tokens = x.length + text.values.shape[1] + sum(one.length for one in conditions)
                name = f"N = {count}, identity {side}"

                def step(x: Tokens = x, text: TextTokens = text, conditions: list[Tokens] = conditions) -> object:
                    return backbone.velocity(x, t, text, conditions, 2.5)

                yield measured(name, scale, width, tokens, step, estimated=estimated(count, side))
    yield from training_rows(scale, backbone, width)


def training_rows(scale: Scale, backbone: FluxKontextBackbone, width: int) -> Iterator[Row]:
    """Forward and backward of the adapter with one subject; the backward pass is counted as one more forward pass."""
    backbone.add_adapter("main", scale.rank, float(scale.rank), None, 0)
    parameters = list(backbone.trainable_parameters().values())
    x, conditions, text = sequence(scale, 1, 256)
    t = torch.tensor([0.5], device=scale.device)
    tokens = x.length + text.values.shape[1] + sum(one.length for one in conditions)

    def step() -> object:
        loss = backbone.velocity(x, t, text, conditions, 1.0).square().mean()
        return torch.autograd.grad(loss, parameters)

    for name, checkpointing, passes in (("train, checkpointed", True, 3), ("train", False, 2)):
        if checkpointing:
            backbone.transformer.enable_gradient_checkpointing()
        else:
            backbone.transformer.disable_gradient_checkpointing()
        wanted = estimated(1, 256, train=True, gradient_checkpointing=checkpointing)
        try:
            yield measured(f"{name}, N = 1", scale, width, tokens, step, passes=passes, estimated=wanted)
        except torch.cuda.OutOfMemoryError:
            print(f"{name}: does not fit, estimated {wanted / 1e9:.1f} GB")


def table(rows: list[Row], scale: Scale, roof: float) -> str:
    """Markdown; seconds and bytes at full size alone, where they mean something."""
    base = rows[0].seconds
    full = scale.divisor == 1
    head = "| run | tokens | step / text to image | same in FLOP | share of a matrix product |"
    head += " seconds | peak GB | estimated GB |" if full else ""
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row in rows:
        cells = [row.name, str(row.tokens), f"{row.seconds / base:.2f}", f"{row.flop / rows[0].flop:.2f}"]
        cells.append(f"{row.flop / row.seconds / roof:.2f}")
        if full:
            sizes = [f"{size / 1e9:.1f}" if size else "" for size in (row.bytes_peak, row.bytes_estimated)]
            cells += [f"{row.seconds:.3f}", *sizes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine(scale: Scale, roof: float) -> str:
    """One line that names what was measured on what."""
    where = torch.cuda.get_device_name(0) if scale.device.type == "cuda" else f"{platform.machine()} CPU, one thread"
    size = "full size" if scale.divisor == 1 else "one eighth of the tokens and of the width, 1 + 2 blocks"
    product = f"{roof / 1e12:.2f} TFLOP/s" if scale.divisor == 1 else "in the same run"
    return f"{where}, torch {torch.__version__}, bfloat16, {size}; matrix product {product}."


def main() -> None:
    """Prints the table, and puts it into a page with ``--write``."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--write", type=Path, help="page whose table is replaced")
    arguments = reader.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scale = choose_scale()
    roof = matrix_product(scale)
    rows = list(rows_of(scale, load_parts("pocket", None, torch.float32)))
    text = f"{machine(scale, roof)}\n\n{table(rows, scale, roof)}"
    print(text)
    if arguments.write is not None:
        write_between(arguments.write, MARKS, text)


if __name__ == "__main__":
    main()
