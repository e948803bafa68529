"""LoRA adapters: which layers they change, and how a file is written so that diffusers reads it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigma_backbones.adapter_files import AdapterFile, linear_layers
from sigma_backbones.lora import ADAPTER_FILE, IDS, PEFT_METADATA, PREFIX, LoraFamily, matched_names, target_pattern
from sigma_framework import WeightsError


def matched_modules(family: LoraFamily, transformer: nn.Module, targets: Sequence[str] | None) -> list[str]:
    """Names of the linear layers of a transformer that the targets mean.

    Raises:
        WeightsError: a target that means no linear layer of this transformer.
    """
    return matched_names(family, list(linear_layers(transformer)), targets)


def add_lora(
    family: LoraFamily,
    transformer: Any,
    name: str,
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str] | None,
    seed: int,
) -> None:
    """A fresh adapter: A Gaussian, B zero, so its effect is zero; the global random state is left as it was."""
    from peft import LoraConfig

    matched_modules(family, transformer, targets)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=target_pattern(targets or family.targets),
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


def write_lora(
    family: LoraFamily, transformer: Any, folder: Path, name: str, metadata: Mapping[str, str], dtype: torch.dtype
) -> Path:
    """Writes one adapter with its peft configuration and our own metadata; the file appears whole or not at all."""
    import diffusers
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    settings = {
        key: sorted(value) if isinstance(value, set) else value for key, value in _peft_settings(transformer, name)
    }
    described = json.dumps({f"{PREFIX}{key}": value for key, value in settings.items()}, sort_keys=True)
    header = {"format": "pt", **family.described, **metadata, IDS: family.ids, PEFT_METADATA: described}

    def save(weights: dict[str, Tensor], path: str) -> None:
        contiguous = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
        save_file(contiguous, f"{path}.part", header)
        os.replace(f"{path}.part", path)

    layers = get_peft_model_state_dict(transformer, adapter_name=name)
    pipeline = getattr(diffusers, family.pipeline)
    pipeline.save_lora_weights(folder, transformer_lora_layers=layers, save_function=save)
    return folder / ADAPTER_FILE


def _peft_settings(transformer: Any, name: str) -> list[tuple[str, Any]]:
    return list(transformer.peft_config[name].to_dict().items())


def lora_layers(transformer: nn.Module) -> list[Any]:
    """peft's layers, which hold each adapter's weights and ``scaling``, what its output is multiplied by."""
    from peft.tuners.lora import LoraLayer

    return [module for module in transformer.modules() if isinstance(module, LoraLayer)]


def put_lora(transformer: Any, found: AdapterFile, name: str) -> None:
    """Puts a checked adapter on the transformer, float32.

    Raises:
        WeightsError: peft refuses it.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            transformer.load_lora_adapter(
                dict(found.state),
                network_alphas=found.alphas,
                adapter_name=name,
                metadata=found.settings,
            )
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise WeightsError(f"adapter {found.file}: cannot be put into this transformer: {error}") from error
    for parameter in adapter_parameters(transformer, name).values():
        parameter.data = parameter.data.float()


def move_into(transformer: Any, source: str, name: str) -> bool:
    """Numbers and scale of the adapter ``source`` into the tensors of the adapter ``name``; ``source`` is gone then.

    The tensors stay where they are, so nothing that was compiled has to be compiled again. False, and nothing done,
    when layers or ranks differ.
    """
    new, old = (adapter_parameters(transformer, one) for one in (source, name))
    shapes = {key.replace(f".{source}.", f".{name}."): value.shape for key, value in new.items()}
    if shapes != {key: value.shape for key, value in old.items()}:
        return False
    with torch.no_grad():
        for key, value in new.items():
            old[key.replace(f".{source}.", f".{name}.")].copy_(value)
    for layer in lora_layers(transformer):
        if source in layer.lora_alpha:
            for kept in (layer.lora_alpha, layer.scaling, layer.use_rslora):
                kept[name] = kept[source]
    transformer.peft_config[name] = transformer.peft_config[source]
    transformer.delete_adapters(source)
    return True
