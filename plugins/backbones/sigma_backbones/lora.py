"""What LoRA files of one base look like, and which layers targets mean; no torch.

``adapter_files`` reads and checks such files, ``adapters`` puts them on a transformer and writes them,
``loaded_adapters`` keeps several; none of them knows a model family, that is a ``LoraFamily``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sigma_framework import Problem, WeightsError

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""The name diffusers looks for in a folder."""
PEFT_METADATA = "lora_adapter_metadata"
"""Key of a safetensors file's metadata under which diffusers keeps the adapter's configuration."""
PREFIX = "transformer."
"""What diffusers puts before the name of each transformer layer."""
IDS = "sigma.ids"
"""Fact of a file's header: the position ids that its adapter was trained with."""


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
    ids: str
    """Position ids of the three roles in words; written into files and compared when one is read."""
    described: Mapping[str, str] = field(default_factory=dict)
    """Facts of the ModelSpec standard that this base knows; whoever saves an adapter may say others."""


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
