"""Where the adapters of a recipe lie: at a path relative to who wrote it, or with the weights of the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sigma_framework.dataclass_schema import shown
from sigma_framework.errors import PluginError, listed
from sigma_framework.recipe.backbone_answers import adapters_brought
from sigma_framework.recipe.findings import Findings
from sigma_framework.recipe.origins import KeyPath, dotted
from sigma_framework.recipe.paths import is_bare_word
from sigma_framework.recipe.records import ComponentBlock
from sigma_framework.recipe.schema import AdapterBlock
from sigma_framework.recipe.training_schema import TrainBlock

AdapterBlocks = Mapping[str, AdapterBlock | None]


def place_adapters(
    findings: Findings, backbone: ComponentBlock | None, adapters: AdapterBlocks
) -> dict[str, AdapterBlock | None]:
    """The blocks with absolute paths; without a backbone a bare word stays what it is."""
    placed: dict[str, AdapterBlock | None] = {}
    for name, block in adapters.items():
        key = ("adapters", name, "path")
        none = f"adapters.{name}=null for none"
        placed[name] = block and replace(block, path=str(_place(findings, backbone, key, block.path, none)))
    return placed


def place_start(findings: Findings, backbone: ComponentBlock | None, train: TrainBlock | None) -> TrainBlock | None:
    """As ``place_adapters`` for the adapter that training starts from."""
    if train is None or train.init_from is None:
        return train
    none = "train.init_from=null for a fresh one"
    return replace(train, init_from=_place(findings, backbone, ("train", "init_from"), str(train.init_from), none))


def _place(findings: Findings, backbone: ComponentBlock | None, key: KeyPath, text: str, none: str) -> Path:
    """Where one adapter lies.

    Args:
        findings: gets the path, so that records of the recipe lead there, or the problem. A name of the backbone's is
            recorded as it was written: where its folder lies differs between machines.
        backbone: None where the recipe has none, or a wrong one, which is reported elsewhere.
        key: of the text.
        text: what the recipe says.
        none: what to write for no adapter.
    """
    where = dotted(key)
    if where in findings.files:
        return findings.files[where]
    beside = findings.loaded.origin(key).folder / text
    if not text.strip():
        findings.add(where, f"found {shown(text)}, expected a file or folder", f"write {none}")
        return beside
    if is_bare_word(text):
        if backbone is None:
            return Path(text)
        try:
            brought = adapters_brought(backbone)
        except PluginError as error:
            findings.add(where, error.message)
            return beside
        if text in brought:
            return Path(brought[text])
        if not beside.exists():
            findings.add(where, *_unknown(backbone, text, brought, none))
    findings.files[where] = beside
    return beside


def _unknown(backbone: ComponentBlock, word: str, brought: Mapping[str, Path], none: str) -> tuple[str, str]:
    """(what, remedy) for a bare word that is neither a name nor anything that lies there."""
    weights = getattr(backbone.config, "weights", None)
    these = f" with the weights {shown(weights)}" if isinstance(weights, str) else ""
    known = f"it brings: {listed(brought)}; " if brought else ""
    return (
        f"found {shown(word)}, which {backbone.reference} does not bring{these}",
        f"{known}give a folder from training, or write {none}",
    )
