"""Options of the ``flux_kontext`` backbone; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FULL_SCALE = "black-forest-labs/FLUX.1-Kontext-dev"
"""The paper's base model on the Hugging Face hub (section 4.1)."""


@dataclass(frozen=True, kw_only=True)
class FluxKontextConfig:
    """Which weights, where, and how they are kept."""

    weights: str = "pocket"
    """``pocket`` (shipped), a diffusers folder, or a hub id such as ``black-forest-labs/FLUX.1-Kontext-dev``."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; None is its main branch."""
    device: str = "auto"
    """A torch device; ``auto`` is this process's accelerator where there is one, else the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of the frozen weights; ``auto`` is float32 on the CPU and bfloat16 elsewhere."""
    identity_encoding: Literal["stack", "blocks"] = "stack"
    """``stack``: the VAE sees the identity images as one tall image (section 3.3); ``blocks``: each alone."""
    gradient_checkpointing: bool = False
    """Computes activations a second time in the backward pass: much less memory, about a third more time."""
    attention: str | None = None
    """One of diffusers' attention backends, e.g. ``_native_math``: on a CPU in bfloat16 up to three times faster than
    the default for sequences of a few hundred tokens; None is diffusers' default."""
    fuse_adapters: bool = False
    """Adds loaded adapters into the base's weights before the first step: each step is faster, the result the same up
    to rounding; a 16-bit base loses a little precision each time adapters are taken out again."""
    adapter_dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers of adapter files that are written."""

    def __post_init__(self) -> None:
        if not self.weights.strip():
            raise ValueError("weights must be pocket, a folder or a hub id, found an empty text")
