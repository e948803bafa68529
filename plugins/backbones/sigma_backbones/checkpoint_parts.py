"""One part of a checkpoint in diffusers' folder format: whole, from safetensors alone, or an error that names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import is_offline_mode, snapshot_download

from sigma_backbones.checkpoint_source import is_reading_fault, reading_fault
from sigma_framework import WeightsError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Endings of files that run code when they are opened."""


@dataclass(frozen=True, kw_only=True)
class CheckpointParts:
    """Reads the parts of one checkpoint; the libraries only warn of most of what is refused here."""

    weights: str
    """What the recipe says."""
    source: str
    """The folder, or the hub id."""
    where: str
    """``folder`` or ``hub``."""
    revision: str | None = None
    """Of a hub id."""
    key: str = "backbone.weights"
    """Of the recipe, for messages."""

    @property
    def hub_options(self) -> dict[str, Any]:
        """What the libraries' readers are told of a hub id; offline, diffusers asks the hub for shards unless told."""
        if self.where != "hub":
            return {}
        offline = {"local_files_only": True} if is_offline_mode() else {}
        return offline if self.revision is None else {"revision": self.revision, **offline}

    def config(self, kind: Any, part: str | None) -> dict[str, Any]:
        """A part's ``config.json``, read by a class of diffusers."""
        with self._told(part):
            config: dict[str, Any] = kind.load_config(self.source, **_place(part), **self.hub_options)
            return config

    def load(self, kind: Any, part: str | None, **options: Any) -> Any:
        """``kind.from_pretrained`` of a part's folder; None is the checkpoint's own.

        Raises:
            WeightsError: it cannot be read or had.
        """
        with self._told(part):
            return kind.from_pretrained(self.source, **_place(part), **self.hub_options, **options)

    def tokenizer(self, kind: Any, part: str) -> Any:
        """A tokenizer, from its files alone: offline, transformers also wants a ``config.json``, which it has not.

        Raises:
            WeightsError: it cannot be read or had.
        """
        with self._told(part):
            folder = self.source
            if self.where == "hub":
                folder = snapshot_download(self.source, allow_patterns=[f"{part}/*"], **self.hub_options)
            return kind.from_pretrained(folder, **_place(part))

    def model(self, kind: Any, part: str | None, *, whole: bool = False, **options: Any) -> Any:
        """A model with weights, every one of them from the file.

        Args:
            kind: a model class of diffusers or transformers.
            part: its folder; None is the checkpoint's own.
            whole: also refuses tensors that the model has no place for.
            options: for ``from_pretrained``.

        Raises:
            WeightsError: it cannot be read, would run code, lacks tensors or has them in other sizes.
        """
        self._refuse_pickles(part)
        model, found = self.load(kind, part, use_safetensors=True, output_loading_info=True, **options)
        quantized = getattr(model, "hf_quantizer", None) is not None  # its scales are further tensors in the file
        faults = _faults(found, whole=whole and not quantized)
        if faults:
            raise WeightsError(
                f"{self.key}: {self._name(part)} {'; it '.join(faults)}; its config.json and its weights belong to "
                "different models, or a download stopped: copy or download it again"
            )
        return model

    def text_encoder(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        """As ``model``, for a class of transformers."""
        # without the second, transformers' error refers to a report that it prints
        return self.model(kind, part, dtype=dtype, ignore_mismatched_sizes=True)

    @contextmanager
    def _told(self, part: str | None) -> Iterator[None]:
        """Says a library's complaint about files in terms of the recipe."""
        try:
            yield
        except Exception as error:
            if not is_reading_fault(error):
                raise
            raise reading_fault(self.weights, self.where, error, key=self.key, part=part) from error

    def _name(self, part: str | None) -> str:
        return self.weights if part is None else f"{self.weights}/{part}"

    def _refuse_pickles(self, part: str | None) -> None:
        folder = Path(self.source) / (part or "")
        if self.where != "folder" or any(folder.glob("*.safetensors*")):
            return
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise WeightsError(
                f"{self.key}: {self._name(part)}: found {pickles[0]}, only .safetensors is accepted: other formats can "
                "run code when they are opened; convert it where you trust it"
            )


def _place(part: str | None) -> dict[str, str]:
    return {} if part is None else {"subfolder": part}


def _faults(found: Mapping[str, Any], *, whole: bool) -> list[str]:
    """What a library's report says of tensors that did not find one another."""
    missing, foreign = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    other = sorted(found["mismatched_keys"], key=lambda entry: entry[0])
    faults = []
    if missing:
        faults.append(f"lacks {len(missing)} tensors, first {missing[0]}")
    if other:
        name, stored, expected = other[0]
        sizes = f"found {tuple(stored)}, expected {tuple(expected)}"
        faults.append(f"has {len(other)} tensors of other sizes, first {name}: {sizes}")
    if whole and foreign:
        faults.append(f"has {len(foreign)} tensors without a place, first {foreign[0]}")
    return faults
