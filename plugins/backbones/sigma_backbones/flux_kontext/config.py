"""Options of the ``flux_kontext`` backbone; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sigma_backbones import POCKET, pocket_folder
from sigma_framework import ImageSizes

FULL_SCALE = "black-forest-labs/FLUX.1-Kontext-dev"
"""The paper's base model on the Hugging Face hub (section 4.1)."""
POCKET_SIZES = ImageSizes(default=(128, 128), smallest=96, largest=192)
"""What ``pocket`` was trained on is 128 pixels; it holds up within these sides."""
GGUF = ".gguf"
"""Ending of files whose weights are quantized already."""


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """What a memory profile means."""

    offload: Literal["none", "model", "group"]
    """``none``: everything stays on the device; ``model``: text encoders and transformer take turns there, a few
    seconds per image; ``group``: the transformer comes block by block, every step waits for the bus."""
    vae_tiling: bool
    """Decodes tile by tile; encodes whole, always."""


PROFILES = {
    "full": MemoryOptions(offload="none", vae_tiling=False),
    "balanced": MemoryOptions(offload="model", vae_tiling=False),
    "low": MemoryOptions(offload="group", vae_tiling=True),
}
"""By ``backbone.memory``, from the fastest to the smallest."""


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
    transformer: str | None = None
    """A single-file checkpoint (``.safetensors``, or quantized ``.gguf``) of the transformer, in the original or
    diffusers' names, used in the place of the one in ``weights``, which then gives the rest."""
    quantize: Literal["int8", "float8", "nf4"] | None = None
    """Rounds the transformer's frozen weights while they load; adapters stay float32. ``int8``, ``float8`` (torchao,
    any device): half of bfloat16's memory; ``nf4`` (bitsandbytes, CUDA): under a third, and coarser. Null is off."""
    memory: Literal["full", "balanced", "low"] = "full"
    """``full``: all models stay on the device; ``balanced``: text encoders leave before the transformer comes; ``low``:
    the transformer comes block by block, and the VAE decodes in tiles. ``--explain`` estimates each."""
    offload: Literal["none", "model", "group"] | None = None
    """Overrides this part of ``memory``."""
    vae_tiling: bool | None = None
    """Overrides this part of ``memory``; tiles show faint seams in exchange for memory."""
    compile: str | None = None
    """A torch.compile backend, e.g. ``inductor``, for each block: faster steps after a long first one; null is off."""
    depth_control: str | None = None
    """A ``FluxControlNetModel`` (folder or hub id) that reads the depth instead of ``I^C`` (Table 3); null is off."""
    depth_control_scale: float = 1.0
    """Strength of the external depth."""
    identity_encoding: Literal["stack", "blocks"] = "stack"
    """``stack``: the VAE sees the identity images as one tall image (section 3.3); ``blocks``: each alone."""
    gradient_checkpointing: bool = False
    """Computes activations a second time in the backward pass: much less memory, about a third more time."""
    activation_gb: float | None = None
    """With ``gradient_checkpointing``: memory for the activations of a training step, GB. Of each step only as many
    blocks are computed twice as its length needs, none of a short one; null computes all of them twice."""
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
        if self.transformer is not None and not self.transformer.endswith((".safetensors", GGUF)):
            raise ValueError(f"transformer must be a .safetensors or .gguf file, found {self.transformer}")
        if self.activation_gb is not None and not (self.gradient_checkpointing and self.activation_gb > 0):
            raise ValueError(
                f"activation_gb: found {self.activation_gb}, expected more than 0, and gradient_checkpointing: true"
            )
        if self.fuse_adapters and memory_options(self).offload == "group":
            raise ValueError(
                "fuse_adapters needs the whole transformer at once, found group offload; write offload: model, or none"
            )
        if self.fuse_adapters and quantization(self) is not None:
            raise ValueError(
                "fuse_adapters adds to the base's weights, which are quantized here and would be rounded again; write "
                "fuse_adapters: false"
            )
        if self.quantize is not None and self.transformer is not None:
            raise ValueError(
                f"quantize: {self.quantize} rounds what a folder holds, found the single file {self.transformer}; "
                "name a .gguf file, which is quantized already, or a folder that diffusers wrote in weights"
            )
        if self.quantize == "nf4" and memory_options(self).offload == "group":
            raise ValueError("quantize: nf4 cannot travel block by block; write offload: model, or quantize: int8")


def image_sizes(config: FluxKontextConfig) -> ImageSizes | None:
    """Those of ``pocket``; FLUX.1 Kontext takes any."""
    return POCKET_SIZES if config.weights == POCKET else None


def quantization(config: FluxKontextConfig) -> Literal["int8", "float8", "nf4", "gguf"] | None:
    """How the transformer's weights are quantized; None is not at all."""
    if config.transformer is not None and config.transformer.endswith(GGUF):
        return "gguf"
    return config.quantize


def memory_options(config: FluxKontextConfig) -> MemoryOptions:
    """The profile with the single options put in."""
    profile = PROFILES[config.memory]
    return MemoryOptions(
        offload=profile.offload if config.offload is None else config.offload,
        vae_tiling=profile.vae_tiling if config.vae_tiling is None else config.vae_tiling,
    )


def shipped_adapters(config: FluxKontextConfig) -> Mapping[str, Path]:
    """Those that come with the weights, by name: ``pocket``'s own, also where a single file replaces its transformer.

    A file takes its shapes from the folder's ``config.json``, and quantized weights keep theirs, so it fits both.
    """
    return {POCKET: pocket_folder() / "adapter"} if config.weights == POCKET else {}
