"""A quantized transformer: what it needs here, and diffusers' settings for it (``backbone.quantize``, GGUF files)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sigma_backbones.flux_kontext.config import FluxKontextConfig, quantization
from sigma_framework import WeightsError

MAGIC = b"GGUF"
"""How a GGUF file starts."""
ACCELERATORS = ("cuda", "xpu")
"""Where bitsandbytes' 4-bit layers compute, as far as diffusers lets them."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What a kind of quantization is made with."""

    package: str
    """Its module."""
    extra: str
    """Of this distribution."""
    devices: tuple[str, ...] = ()
    """Kinds of devices that it needs; none is any."""


REQUIREMENTS = {
    "int8": Requirement(package="torchao", extra="torchao"),
    "float8": Requirement(package="torchao", extra="torchao"),
    "nf4": Requirement(package="bitsandbytes", extra="bitsandbytes", devices=ACCELERATORS),
    "gguf": Requirement(package="gguf", extra="gguf"),
}
"""By kind."""


def require_quantization(config: FluxKontextConfig, device: torch.device) -> None:
    """Looks for packages and device before any weights are.

    Raises:
        WeightsError: one of them is not here.
    """
    kind = quantization(config)
    if kind is None:
        return
    key = "backbone.transformer" if kind == "gguf" else f"backbone.quantize={kind}"
    needed = REQUIREMENTS[kind]
    if needed.devices and device.type not in needed.devices:
        raise WeightsError(
            f"{key}: found the device {device.type}, expected {' or '.join(needed.devices)}, where {needed.package} "
            "computes; write backbone.quantize=int8, or name a .gguf file in backbone.transformer"
        )
    if find_spec(needed.package) is None:
        raise WeightsError(
            f"{key}: the package {needed.package} is not installed; run `pip install 'sigma-framework[{needed.extra}]'`"
            f"{'' if kind == 'gguf' else ', or write backbone.quantize=null'}"
        )


def quantization_options(config: FluxKontextConfig, dtype: torch.dtype) -> dict[str, Any]:
    """What diffusers' loaders of the transformer are told; nothing without quantization.

    Every linear layer is rounded, row by row; biases and norms are kept in ``dtype``.
    """
    kind = quantization(config)
    if kind is None:
        return {}
    return {"quantization_config": _settings(kind, dtype)}


def _settings(kind: str, dtype: torch.dtype) -> Any:
    import diffusers

    if kind == "gguf":
        return diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    if kind == "nf4":
        return diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    return diffusers.TorchAoConfig(Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig())


def check_gguf(file: Path) -> None:
    """The beginning of a GGUF file.

    Raises:
        ValueError: it is none.
        OSError: it cannot be opened.
    """
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError("damaged or not a GGUF file")
