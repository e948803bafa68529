"""Adapter files from anywhere: what a file must be before any of it reaches a transformer."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigma_backbones.lora import ADAPTER_FILE, IDS, PEFT_METADATA, PREFIX, LoraFamily
from sigma_backbones.safetensors_header import Header, read_header
from sigma_framework import Problem, WeightsError

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 5
"""A damaged file has hundreds of them."""
NUMBERS = ("F32", "F16", "BF16", "F64")
"""Kinds of numbers that adapters are written in."""
LARGEST_ALPHA = 1024.0
"""An alpha beyond this is an attack or a mistake; 128 is the paper's (section 4.1)."""
LARGEST_WEIGHT = 1e4
"""Trained adapters stay below 10; a file beyond this overflows 16-bit activations."""
READ_FIELDS = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
"""Of peft's configuration, what decides the result of a plain LoRA; its layers are named by the file itself."""
HARMLESS_FIELDS = frozenset(
    [
        "peft_type",
        "peft_version",
        "task_type",
        "inference_mode",
        "init_lora_weights",
        "target_modules",
        "lora_dropout",
        "base_model_name_or_path",
        "revision",
        "qalora_group_size",
        "megatron_core",
        "bias",
    ]
)
"""Fields that change nothing once the weights are there, whatever they say."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterFile:
    """A checked adapter for one transformer."""

    file: Path
    """Where it was read."""
    state: dict[str, Tensor]
    """LoRA pairs under diffusers' names."""
    alphas: dict[str, Any] | None
    """``.alpha`` tensors; None where the metadata says the scale."""
    settings: dict[str, Any] | None
    """What of peft's configuration is used; None where the file has none."""
    facts: Mapping[str, str]
    """The text in the file's header, without the position ids, which agree."""


def read_adapter(family: LoraFamily, path: Path, transformer: nn.Module) -> AdapterFile:
    """Reads and checks an adapter file in any form that diffusers knows; the transformer is only looked at.

    Raises:
        WeightsError: the file is not a LoRA for this transformer; every reason found is listed.
    """
    file = path / ADAPTER_FILE if path.is_dir() else path
    header = _check_file(file)
    settings = _check_settings(file, header.metadata.get(PEFT_METADATA))
    _check_ids(family, file, header.metadata)
    state, alphas = _read_state(family, file)
    _check_alphas(file, alphas, settings)
    _check_weights(family, file, transformer, state, settings)
    kept = {key: value for key, value in state.items() if key.startswith(PREFIX)}
    if len(kept) < len(state):
        logger.warning("adapter %s also holds %d tensors of other models; not used", file, len(state) - len(kept))
    if settings is not None:
        layers = sorted({key.removeprefix(PREFIX).rpartition(".lora_")[0] for key in kept})
        settings = {f"{PREFIX}{key}": value for key, value in {**settings, "target_modules": layers}.items()}
    facts = {key: value for key, value in header.metadata.items() if key != IDS}
    return AdapterFile(file=file, state=kept, alphas=alphas or None, settings=settings, facts=facts)


def linear_layers(transformer: nn.Module) -> dict[str, nn.Linear]:
    """The base's own linear layers by the names they had before adapters wrapped them."""
    return {
        key.removesuffix(".base_layer"): module
        for key, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in key
    }


def _read_state(family: LoraFamily, file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(LoRA matrices, ``.alpha`` tensors) under diffusers' names; some of its pipelines leave the two together."""
    import diffusers

    try:
        state, *more = getattr(diffusers, family.pipeline).lora_state_dict(
            str(file), return_alphas=True, return_lora_metadata=True, local_files_only=True, use_safetensors=True
        )
    except Exception as error:  # anything may go wrong in a stranger's file; the libraries name no common class
        raise WeightsError(
            f"adapter {file}: cannot be read ({_first_line(error)}); expected a LoRA for {family.base}"
        ) from error
    alphas = dict(more[0] or {}) if len(more) > 1 else {}
    alphas |= {key: value for key, value in state.items() if key.endswith(".alpha")}
    return {key: value for key, value in state.items() if key not in alphas}, alphas


def _check_ids(family: LoraFamily, file: Path, facts: Mapping[str, str]) -> None:
    """The position ids that the file says it was trained with, where it says any."""
    found = facts.get(IDS, family.ids)
    if found != family.ids:
        raise WeightsError(
            f'adapter {file} was trained for something else: {IDS}: found "{found:.200}", this base has '
            f'"{family.ids}"; take an adapter that was trained on this base with this version'
        )


def _check_file(file: Path) -> Header:
    """Format, length, kinds of numbers, and that there is a LoRA at all."""
    if not file.is_file():
        raise WeightsError(
            f"adapter {file}: no such file; expected a .safetensors file or a folder with {ADAPTER_FILE}"
        )
    if file.suffix.lower() != ".safetensors":
        raise WeightsError(
            f"adapter {file}: found a {file.suffix or 'nameless'} file, only .safetensors is accepted from others: "
            "other formats can run code when they are opened; convert it where you trust it"
        )
    try:
        header = read_header(file)
    except (ValueError, OSError) as error:
        raise WeightsError(f"adapter {file}: {error}; copy it again") from error
    names = list(header.tensors)
    if not any("lora" in name.lower() for name in names):
        found = ", ".join(names[:3]) or "nothing"
        raise WeightsError(f"adapter {file}: no LoRA weights in it; expected lora_A and lora_B pairs, first: {found}")
    if any("dora_scale" in name for name in names):
        raise WeightsError(f"adapter {file}: a DoRA, whose scales this base does not read; expected a plain LoRA")
    strange = sorted({entry["dtype"] for entry in header.tensors.values()} - set(NUMBERS))
    if strange:
        raise WeightsError(
            f"adapter {file}: found numbers of kind {', '.join(strange)}, expected {', '.join(NUMBERS)}; convert it"
        )
    return header


def _check_settings(file: Path, text: str | None) -> dict[str, Any] | None:
    """peft's configuration from the metadata: plain numbers within bounds, nothing active that is not understood."""
    if text is None:
        return None
    place = f"adapter {file}: metadata {PEFT_METADATA}"
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{place} is not JSON; write the adapter again, or remove the metadata") from error
    if not isinstance(read, dict):
        raise WeightsError(f"{place}: found no map, expected peft's configuration; write the adapter again")
    fields = {str(key).removeprefix(PREFIX): value for key, value in read.items() if str(key).startswith(PREFIX)}
    known = {name: fields[name] for name in READ_FIELDS if name in fields}
    problems = [
        Problem(f"metadata field {name}", f"found {value!r:.60}, which this base does not read", "use a plain LoRA")
        for name, value in fields.items()
        if name not in READ_FIELDS and name not in HARMLESS_FIELDS and _is_active(value)
    ]
    if fields.get("bias", "none") != "none":
        problems.append(Problem("metadata field bias", f"found {fields['bias']!r:.60}, expected none"))
    problems += _bounds("r", known.get("r", 1), LARGEST_ALPHA)
    problems += _bounds("lora_alpha", known.get("lora_alpha", 1), LARGEST_ALPHA)
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = known.get(name) or {}
        if not isinstance(pattern, dict) or not all(_is_plain_name(key) for key in pattern):
            problems.append(Problem(f"metadata field {name}", "expected layer names, found a search pattern"))
        else:
            problems += [one for key, value in pattern.items() for one in _bounds(f"{name} {key}", value)]
    _raise_all(file, "has metadata that cannot be used", problems)
    return known


def _is_active(value: Any) -> bool:
    """Whether a field says something: switched-off options are null, false, empty or zero."""
    return bool(value)


def _is_plain_name(key: str) -> bool:
    return all(character.isalnum() or character in "._" for character in key.removeprefix("^")) and "*" not in key


def _bounds(name: str, value: Any, most: float = LARGEST_ALPHA) -> list[Problem]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and 0 < value <= most:
        return []
    what = f"found {value!r:.40}, expected a number above 0 and at most {most:g}"
    return [Problem(f"metadata field {name}", what, "the file was edited or is not meant to be used")]


def _check_alphas(file: Path, alphas: Mapping[str, Any] | None, settings: Mapping[str, Any] | None) -> None:
    if alphas and settings is not None:
        raise WeightsError(
            f"adapter {file}: says its scale twice, in {PEFT_METADATA} and in .alpha tensors; remove one of them"
        )
    problems = [one for key, value in (alphas or {}).items() for one in _bounds(key, torch.as_tensor(value).tolist())]
    _raise_all(file, "has scales that cannot be used", problems)


def _check_weights(
    family: LoraFamily,
    file: Path,
    transformer: nn.Module,
    state: Mapping[str, Tensor],
    settings: Mapping[str, Any] | None,
) -> None:
    """Pairs, layers, widths, ranks and numbers; collected, one line per kind of fault."""
    pairs: dict[str, dict[str, Tensor]] = {}
    strange = []
    for key, value in state.items():
        layer, mark, side = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        if not key.startswith(PREFIX):
            continue
        if mark and side in ("A", "B") and value.ndim == 2:
            pairs.setdefault(layer, {})[side] = value
        else:
            strange.append(key)
    if not pairs:
        first = ", ".join(list(state)[:3])
        raise WeightsError(f"adapter {file}: no LoRA weights for a {family.base} transformer in it; first: {first}")
    problems = [*_number_problems(state), *_pair_problems(pairs, transformer), *_rank_problems(pairs, settings)]
    if strange:
        what = f"{len(strange)} tensors are no part of a pair"
        problems.append(Problem(strange[0], what, "the file was edited, or holds more than a LoRA"))
    if not problems and not any(bool(pair["B"].any()) for pair in pairs.values()):
        problems.append(Problem("lora_B", "all numbers are zero: it does nothing", "take a trained adapter"))
    _raise_all(file, "is not for this base", problems)


def _number_problems(state: Mapping[str, Tensor]) -> list[Problem]:
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    huge = [key for key, value in state.items() if key not in broken and float(value.abs().max()) > LARGEST_WEIGHT]
    problems = []
    if broken:
        what = f"{len(broken)} tensors hold NaN or infinite numbers"
        problems.append(Problem(broken[0], what, "the training that wrote it diverged"))
    if huge:
        what = f"{len(huge)} tensors hold numbers beyond {LARGEST_WEIGHT:g}"
        problems.append(Problem(huge[0], what, "the training that wrote it diverged"))
    return problems


def _pair_problems(pairs: Mapping[str, Mapping[str, Tensor]], transformer: nn.Module) -> list[Problem]:
    layers = linear_layers(transformer)
    halves = [layer for layer, pair in pairs.items() if len(pair) < 2]
    foreign = [layer for layer in pairs if layer not in layers]
    problems = []
    if halves:
        missing = "B" if "A" in pairs[halves[0]] else "A"
        what = f"{len(halves)} of {len(pairs)} pairs are incomplete: lora_{missing} is missing"
        problems.append(Problem(halves[0], what, "the file was cut or edited; copy it again"))
    if foreign:
        what = f"{len(foreign)} of {len(pairs)} layers: this base has no such linear layer"
        problems.append(Problem(foreign[0], what, "the adapter is for another base"))
    wrong = []
    for layer, pair in pairs.items():
        if layer in halves or layer in foreign:
            continue
        module = layers[layer]
        found = (pair["A"].shape[1], pair["B"].shape[0], pair["A"].shape[0])
        expected = (module.in_features, module.out_features, pair["B"].shape[1])
        if found != expected:
            wrong.append((layer, found, expected))
    if wrong:
        layer, found, expected = wrong[0]
        what = f"{len(wrong)} of {len(pairs)} layers have other widths: made for {found[0]} -> {found[1]} of rank "
        what += f"{found[2]}, this base has {expected[0]} -> {expected[1]} of rank {expected[2]}"
        problems.append(Problem(layer, what, "the adapter is for another base"))
    return problems


def _rank_problems(pairs: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any] | None) -> list[Problem]:
    """A rank in the metadata that is not that of the matrices would change the scale."""
    if settings is None or "r" not in settings or settings.get("rank_pattern"):
        return []
    ranks = {pair["A"].shape[0] for pair in pairs.values() if "A" in pair}
    if ranks <= {settings["r"]}:
        return []
    what = f"found rank {settings['r']} in the metadata, {', '.join(map(str, sorted(ranks)))} in the matrices"
    return [Problem("metadata field r", what, "the file was edited; copy it again")]


def _raise_all(file: Path, message: str, problems: list[Problem]) -> None:
    if len(problems) == 1:
        raise WeightsError(f"adapter {file} {message}: {problems[0]}")
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS] + ([Problem("", f"and {more} more of the kind")] if more > 0 else [])
        raise WeightsError(f"adapter {file} {message}", shown)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
