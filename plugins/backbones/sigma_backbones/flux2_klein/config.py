"""Options of the ``flux2_klein`` backbone; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FULL_SCALE = "black-forest-labs/FLUX.2-klein-base-4B"
"""The undistilled 4B model on the Hugging Face hub, the one that is meant to be trained on."""


@dataclass(frozen=True, kw_only=True)
class Flux2KleinConfig:
    """Which weights, where, and how they are kept."""

    weights: str = FULL_SCALE
    """A hub id, or a folder that diffusers wrote (``Flux2KleinPipeline``)."""
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
    activation_gb: float | None = None
    """With ``gradient_checkpointing``: memory for the activations of a training step, GB. Of each step only as many
    blocks are computed twice as its length needs, none of a short one; null computes all of them twice."""
    adapter_dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers of adapter files that are written."""

    def __post_init__(self) -> None:
        if not self.weights.strip():
            raise ValueError("weights must be a folder or a hub id, found an empty text")
        if self.activation_gb is not None and not (self.gradient_checkpointing and self.activation_gb > 0):
            raise ValueError(
                f"activation_gb: found {self.activation_gb}, expected more than 0, and gradient_checkpointing: true"
            )
