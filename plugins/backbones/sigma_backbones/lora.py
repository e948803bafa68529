"""LoRA files for a transformer of diffusers: which layers, what a file must be, how it is written and read.

Knows no model family: that is a ``LoraFamily``. Imports nothing heavy until a function needs it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_framework import Problem, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""The name diffusers looks for in a folder."""
PEFT_METADATA = "lora_adapter_metadata"
"""Key of a safetensors file's metadata under which diffusers keeps the adapter's configuration."""
PREFIX = "transformer."
"""What diffusers puts before the name of each transformer layer."""
ALPHA = ".alpha"
"""Ending of the tensors that hold a layer's alpha in files without metadata."""
LARGEST_ALPHA = 1024
"""Above it a scale is a damaged or hostile number, never a choice."""
SHOWN_PROBLEMS = 5
"""A damaged file has hundreds of them."""


@dataclass(frozen=True, kw_only=True)
class LoraFamily:
    """What adapter files of one base look like."""

    base: str
    """The base's name for messages."""
    pipeline: str
    """The class in ``diffusers`` that reads this family's files in every form it knows, and writes them."""
    transformer: str
    """The class in ``diffusers`` whose module names are targets."""
    targets: tuple[str, ...]
    """Layers that an adapter changes by default; ``*`` is one part of a name."""


def target_pattern(targets: Sequence[str]) -> str:
    """One regular expression for peft, matched against whole module names; ``*`` in a target is one name part."""
    return "(?:" + "|".join(re.escape(target).replace(r"\*", r"[^.]+") for target in targets) + ")"


def matched_names(family: LoraFamily, names: Collection[str], targets: Sequence[str] | None) -> list[str]:
    """Which of the linear layers the targets mean; None is the family's own list.

    Raises:
        WeightsError: a target that means no linear layer of this transformer.
    """
    problems, matched = [], set()
    for target in targets or family.targets:
        pattern = re.compile(target_pattern([target]))
        found = {name for name in names if pattern.fullmatch(name)}
        matched |= found
        if not found:
            remedy = f"write module names of diffusers' {family.transformer}, * for one part"
            problems.append(Problem(target, "found no linear layer of this name", remedy))
    if problems:
        raise WeightsError("adapter targets", problems)
    return sorted(matched)


def matched_modules(family: LoraFamily, transformer: nn.Module, targets: Sequence[str] | None) -> list[str]:
    """Names of the linear layers of a transformer that the targets mean; see ``matched_names``."""
    return matched_names(family, list(_linear_layers(transformer)), targets)


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
    import torch
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
    _keep_float32(transformer, name)


def adapter_parameters(transformer: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter by their full names."""
    part = re.compile(rf"\.lora_[AB]\.{re.escape(name)}\.")
    return {key: value for key, value in transformer.named_parameters() if part.search(key)}


def write_lora(
    family: LoraFamily, transformer: Any, folder: Path, name: str, metadata: Mapping[str, str], dtype: torch.dtype
) -> Path:
    """Writes one adapter with its peft configuration and our own metadata; the file appears whole or not at all."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    settings = {
        f"{PREFIX}{key}": sorted(value) if isinstance(value, set) else value
        for key, value in transformer.peft_config[name].to_dict().items()
    }
    header = {"format": "pt", **metadata, PEFT_METADATA: json.dumps(settings, sort_keys=True)}

    def save(weights: dict[str, Tensor], path: str) -> None:
        contiguous = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
        save_file(contiguous, f"{path}.part", header)
        os.replace(f"{path}.part", path)

    layers = get_peft_model_state_dict(transformer, adapter_name=name)
    _pipeline(family).save_lora_weights(folder, transformer_lora_layers=layers, save_function=save)
    return folder / ADAPTER_FILE


def read_lora(family: LoraFamily, transformer: Any, path: Path, name: str) -> None:
    """Loads an adapter file in any form that diffusers knows for this family; active with weight 1 afterwards.

    Raises:
        WeightsError: the file is not a LoRA for this transformer; every reason found is listed, nothing is loaded.
    """
    import torch

    file = path / ADAPTER_FILE if path.is_dir() else path
    tensors, settings = _open(file)
    try:
        state = _pipeline(family).lora_state_dict(tensors)
    except (ValueError, KeyError, IndexError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(f"adapter {file}: {error}; expected a LoRA for {family.base}") from error
    alphas = {key: float(value) for key, value in state.items() if key.endswith(ALPHA) and value.numel() == 1}
    state = {key: value for key, value in state.items() if key not in alphas}
    layers = _check_weights(family, file, transformer, state, settings, alphas)
    if settings is not None and not alphas:  # the layers of the file, whatever its own pattern would match
        settings = {**settings, "target_modules": layers}
    try:
        with torch.random.fork_rng(devices=[]):
            transformer.load_lora_adapter(
                state,
                adapter_name=name,
                network_alphas=alphas or None,
                metadata=None if settings is None or alphas else {f"{PREFIX}{k}": v for k, v in settings.items()},
            )
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise WeightsError(f"adapter {file}: cannot be put into this transformer: {error}") from error
    _keep_float32(transformer, name)


def _pipeline(family: LoraFamily) -> Any:
    import diffusers

    return getattr(diffusers, family.pipeline)


def _keep_float32(transformer: nn.Module, name: str) -> None:
    for parameter in adapter_parameters(transformer, name).values():
        parameter.data = parameter.data.float()


def _linear_layers(transformer: nn.Module) -> dict[str, nn.Linear]:
    """The base's own linear layers by the names they had before adapters wrapped them."""
    from torch import nn

    return {
        key.removesuffix(".base_layer"): module
        for key, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in key
    }


def _open(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """(tensors, peft's settings where the file has them)."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise WeightsError(
            f"adapter {file}: no such file; expected a .safetensors file or a folder with {ADAPTER_FILE}"
        )
    if file.suffix.lower() != ".safetensors":
        raise WeightsError(
            f"adapter {file}: found a {file.suffix or 'nameless'} file, expected .safetensors; other formats can run "
            "code when they are opened, convert it where you trust it"
        )
    try:
        with safe_open(str(file), "pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  not a dict
            described = (opened.metadata() or {}).get(PEFT_METADATA)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"adapter {file}: damaged or not a safetensors file ({error}); copy it again") from error
    if not any("lora" in key.lower() for key in tensors):
        found = ", ".join(list(tensors)[:3]) or "nothing"
        raise WeightsError(f"adapter {file}: no LoRA weights in it (found {found}); expected lora_A and lora_B pairs")
    return tensors, None if described is None else _settings(file, described)


def _settings(file: Path, described: str) -> dict[str, Any]:
    try:
        read = json.loads(described)
        return {key.removeprefix(PREFIX): value for key, value in read.items()}
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"adapter {file}: its metadata {PEFT_METADATA} cannot be read; copy it again") from error


def _check_weights(
    family: LoraFamily,
    file: Path,
    transformer: nn.Module,
    state: Mapping[str, Tensor],
    settings: Mapping[str, Any] | None,
    alphas: Mapping[str, float],
) -> list[str]:
    """Pairs, layers, widths, numbers and scales; collected. Gives the names of the file's layers."""
    linear = _linear_layers(transformer)
    pairs: dict[str, dict[str, Tensor]] = {}
    problems = []
    for key, value in state.items():
        layer, mark, side = key.removesuffix(".weight").rpartition(".lora_")
        if key.startswith(PREFIX) and mark and side in ("A", "B"):
            pairs.setdefault(layer.removeprefix(PREFIX), {})[side] = value
        else:
            problems.append(Problem(key, "not a LoRA matrix of the transformer", "it may be for another model"))
        if not value.is_floating_point():
            problems.append(Problem(key, f"found {value.dtype}, expected floating-point numbers", "convert it again"))
        elif not bool(value.isfinite().all()):
            problems.append(Problem(key, "found NaN or infinite numbers", "the training that wrote it diverged"))
    if not pairs:
        raise WeightsError(
            f"adapter {file}: no LoRA weights for a {family.base} transformer in it; it is for another model"
        )
    for layer, pair in pairs.items():
        problems += _pair_problems(layer, pair, linear.get(layer))
    problems += _scale_problems(settings, alphas, pairs)
    if not problems and not any(bool(pair["B"].any()) for pair in pairs.values()):
        problems.append(Problem("lora_B", "all numbers are zero: it does nothing", "take a trained adapter"))
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS] + ([Problem("", f"and {more} more of the kind")] if more > 0 else [])
        raise WeightsError(f"adapter {file} is not for this base", shown)
    return sorted(pairs)


def _pair_problems(layer: str, pair: Mapping[str, Tensor], module: nn.Linear | None) -> Iterator[Problem]:
    if len(pair) < 2:
        missing = "B" if "A" in pair else "A"
        yield Problem(layer, f"lora_{missing} is missing, expected pairs", "the file was cut or edited; copy it again")
    elif module is None:
        yield Problem(layer, "this base has no such linear layer", "the adapter is for another base")
    elif pair["A"].ndim != 2 or pair["B"].ndim != 2:
        yield Problem(layer, "expected matrices", "the adapter is for another base")
    else:
        found = (pair["A"].shape[1], pair["B"].shape[0], pair["A"].shape[0])
        expected = (module.in_features, module.out_features, pair["B"].shape[1])
        if found != expected:
            what = f"found widths {found[0]} -> {found[1]} of rank {found[2]}, expected {expected[0]} -> {expected[1]}"
            yield Problem(layer, f"{what} of rank {expected[2]}", "the adapter is for another base")


def _scale_problems(
    settings: Mapping[str, Any] | None, alphas: Mapping[str, float], pairs: Mapping[str, Mapping[str, Tensor]]
) -> Iterator[Problem]:
    """Alphas and ranks that no training would choose, or that contradict the matrices."""
    stated: dict[str, Any] = dict(alphas)
    if settings is not None and not alphas:
        stated["lora_alpha"] = settings.get("lora_alpha")
        stated.update({f"alpha_pattern.{key}": value for key, value in (settings.get("alpha_pattern") or {}).items()})
        rank, patterns = settings.get("r"), settings.get("rank_pattern")
        ranks = {pair["A"].shape[0] for pair in pairs.values() if "A" in pair}
        if not patterns and ranks != {rank}:
            found = f"found rank {rank} in the metadata, {', '.join(map(str, sorted(ranks)))} in the matrices"
            yield Problem("r", found, "the file was edited; copy it again")
    for key, value in stated.items():
        if not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value <= LARGEST_ALPHA:
            yield Problem(key, f"found {value}, expected alpha above 0 and at most {LARGEST_ALPHA}", "copy it again")
