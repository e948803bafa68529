"""LoRA adapters: which layers, what a file must be, and how it is written so that diffusers reads it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigma_backbones.flux_kontext.targets import DEFAULT_TARGETS
from sigma_framework import Problem, WeightsError

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""The name diffusers looks for in a folder."""
PEFT_METADATA = "lora_adapter_metadata"
"""Key of a safetensors file's metadata under which diffusers keeps the adapter's configuration."""
PREFIX = "transformer."
"""What diffusers puts before the name of each transformer layer."""
SHOWN_PROBLEMS = 5
"""A damaged file has hundreds of them."""


def target_pattern(targets: Sequence[str] | None) -> str:
    """One regular expression for peft, matched against whole module names; ``*`` in a target is one name part."""
    parts = [re.escape(target).replace(r"\*", r"[^.]+") for target in targets or DEFAULT_TARGETS]
    return "(?:" + "|".join(parts) + ")"


def matched_modules(transformer: nn.Module, targets: Sequence[str] | None) -> list[str]:
    """Names of the linear layers that the targets mean.

    Raises:
        WeightsError: a target that means no linear layer of this transformer.
    """
    layers = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    problems, matched = [], []
    for target in targets or DEFAULT_TARGETS:
        found = [name for name in layers if re.fullmatch(target_pattern([target]), name)]
        matched += found
        if not found:
            remedy = "write module names of diffusers' FluxTransformer2DModel, * for one part"
            problems.append(Problem(target, "found no linear layer of this name", remedy))
    if problems:
        raise WeightsError("adapter targets", problems)
    return sorted(set(matched))


def add_lora(transformer: Any, name: str, *, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
    """A fresh adapter: A Gaussian, B zero, so its effect is zero; the global random state is left as it was."""
    from peft import LoraConfig

    matched_modules(transformer, targets)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=target_pattern(targets),
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(config, adapter_name=name)
    for parameter in adapter_parameters(transformer, name).values():
        parameter.data = parameter.data.float()


def adapter_parameters(transformer: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter by their full names."""
    part = re.compile(rf"\.lora_[AB]\.{re.escape(name)}\.")
    return {key: value for key, value in transformer.named_parameters() if part.search(key)}


def write_lora(transformer: Any, folder: Path, name: str, metadata: Mapping[str, str], dtype: torch.dtype) -> Path:
    """Writes one adapter with its peft configuration and our own metadata; the file appears whole or not at all."""
    from diffusers import FluxKontextPipeline
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    settings = {
        key: sorted(value) if isinstance(value, set) else value for key, value in _peft_settings(transformer, name)
    }
    described = json.dumps({f"{PREFIX}{key}": value for key, value in settings.items()}, sort_keys=True)

    def save(weights: dict[str, Tensor], path: str) -> None:
        contiguous = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
        save_file(contiguous, f"{path}.part", {"format": "pt", **metadata, PEFT_METADATA: described})
        os.replace(f"{path}.part", path)

    layers = get_peft_model_state_dict(transformer, adapter_name=name)
    FluxKontextPipeline.save_lora_weights(folder, transformer_lora_layers=layers, save_function=save)
    return folder / ADAPTER_FILE


def _peft_settings(transformer: Any, name: str) -> list[tuple[str, Any]]:
    return list(transformer.peft_config[name].to_dict().items())


def read_lora(transformer: Any, path: Path, name: str) -> None:
    """Loads an adapter file in any form that diffusers knows; it is active with weight 1 afterwards.

    Raises:
        WeightsError: the file is not a LoRA for this transformer; every reason found is listed.
    """
    from diffusers import FluxKontextPipeline

    file = path / ADAPTER_FILE if path.is_dir() else path
    _check_file(file)
    try:
        state, alphas, metadata = FluxKontextPipeline.lora_state_dict(
            str(file), return_alphas=True, return_lora_metadata=True
        )
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(f"adapter {file}: {error}; expected a LoRA for FLUX.1") from error
    _check_weights(file, transformer, state)
    try:
        with torch.random.fork_rng(devices=[]):
            FluxKontextPipeline.load_lora_into_transformer(
                state, network_alphas=alphas, transformer=transformer, adapter_name=name, metadata=metadata
            )
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise WeightsError(f"adapter {file}: cannot be put into this transformer: {error}") from error
    for parameter in adapter_parameters(transformer, name).values():
        parameter.data = parameter.data.float()


def _check_file(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise WeightsError(
            f"adapter {file}: no such file; expected a .safetensors file or a folder with {ADAPTER_FILE}"
        )
    if file.suffix != ".safetensors":
        raise WeightsError(
            f"adapter {file}: found a {file.suffix or 'nameless'} file, expected .safetensors; other formats can run "
            "code when they are opened, convert it where you trust it"
        )
    try:
        with safe_open(str(file), "pt") as opened:
            keys = list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"adapter {file}: damaged or not a safetensors file ({error}); copy it again") from error
    if not any("lora" in key.lower() for key in keys):
        found = ", ".join(keys[:3]) or "nothing"
        raise WeightsError(f"adapter {file}: no LoRA weights in it (found {found}); expected lora_A and lora_B pairs")


def _check_weights(file: Path, transformer: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Pairs, layers, widths and numbers; collected."""
    layers = {key: module for key, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    layers = {key.removesuffix(".base_layer"): module for key, module in layers.items() if ".lora_" not in key}
    pairs: dict[str, dict[str, Tensor]] = {}
    problems = []
    for key, value in state.items():
        if not key.startswith(PREFIX):
            continue
        layer, mark, side = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        if mark and side in ("A", "B"):
            pairs.setdefault(layer, {})[side] = value
        if not bool(torch.isfinite(value).all()):
            problems.append(Problem(key, "found NaN or infinite numbers", "the training that wrote it diverged"))
    if not pairs:
        raise WeightsError(f"adapter {file}: no LoRA weights for a FLUX.1 transformer in it; it is for another model")
    for layer, pair in pairs.items():
        problems += _pair_problems(layer, pair, layers.get(layer))
    if not problems and not any(bool(pair["B"].any()) for pair in pairs.values()):
        problems.append(Problem("lora_B", "all numbers are zero: it does nothing", "take a trained adapter"))
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS] + ([Problem("", f"and {more} more of the kind")] if more > 0 else [])
        raise WeightsError(f"adapter {file} is not for this base", shown)


def _pair_problems(layer: str, pair: Mapping[str, Tensor], module: nn.Linear | None) -> list[Problem]:
    if len(pair) < 2:
        missing = "B" if "A" in pair else "A"
        return [
            Problem(layer, f"lora_{missing} is missing, expected pairs", "the file was cut or edited; copy it again")
        ]
    if module is None:
        return [Problem(layer, "this base has no such linear layer", "the adapter is for another base")]
    found = (pair["A"].shape[-1], pair["B"].shape[0], pair["A"].shape[0])
    expected = (module.in_features, module.out_features, pair["B"].shape[-1])
    if found == expected:
        return []
    what = f"found widths {found[0]} -> {found[1]} of rank {found[2]}, expected {expected[0]} -> {expected[1]}"
    return [Problem(layer, f"{what} of rank {expected[2]}", "the adapter is for another base")]
