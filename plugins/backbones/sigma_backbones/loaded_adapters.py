"""The adapters on one transformer: several with weights, fused into the base or beside it, exchanged in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sigma_backbones import adapters
from sigma_backbones.adapter_files import read_adapter
from sigma_backbones.lora import LoraFamily
from sigma_framework import WeightsError

NEXT = "sigma_next"
"""Name of an adapter on its way into the tensors of another."""


class LoadedAdapters:
    """What is on the transformer, with which weight, and what of it is trained."""

    def __init__(self, family: LoraFamily, transformer: Any) -> None:
        self._family = family
        self._transformer = transformer
        self._weights: dict[str, float] = {}
        self._trainable: set[str] = set()
        self._share = 1.0
        self.fused = False

    @property
    def weights(self) -> Mapping[str, float]:
        """Strength by name, in the order of loading."""
        return dict(self._weights)

    def add(self, name: str, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
        """A fresh one to train; its effect is zero."""
        self._refuse_second(name)
        self.unfuse()
        adapters.add_lora(self._family, self._transformer, name, rank=rank, alpha=alpha, targets=targets, seed=seed)
        self._weights[name] = 1.0
        self._trainable.add(name)
        self._switch_on()

    def load(self, path: Path, name: str, weight: float, trainable: bool) -> Mapping[str, str]:
        """One from a file; returns the text in the file's header. A refused file leaves all as it was."""
        self._refuse_second(name)
        found = read_adapter(self._family, path, self._transformer)
        self.unfuse()
        adapters.put_lora(self._transformer, found, name)
        self._weights[name] = float(weight)
        if trainable:
            self._trainable.add(name)
        self._switch_on()
        return found.facts

    def swap(self, path: Path, name: str, weight: float | None) -> Mapping[str, str]:
        """Another file in the place of the adapter ``name``: into its own tensors where layers and ranks agree.

        Raises:
            WeightsError: no adapter of this name, it is being trained, or the file is refused; all stays as it was.
        """
        if name not in self._weights or name in self._trainable:
            raise WeightsError(f"adapter {name}: there is no loaded adapter of this name that could be exchanged")
        found = read_adapter(self._family, path, self._transformer)
        self.unfuse()
        adapters.put_lora(self._transformer, found, NEXT)
        if not adapters.move_into(self._transformer, NEXT, name):
            self._transformer.delete_adapters([NEXT, name])
            adapters.put_lora(self._transformer, found, name)
        if weight is not None:
            self._weights[name] = float(weight)
        self._switch_on()
        return found.facts

    def weigh(self, weights: Mapping[str, float]) -> None:
        """New strengths for adapters that are loaded; the others keep theirs."""
        unknown = [name for name in weights if name not in self._weights]
        if unknown:
            raise WeightsError(f"adapter {unknown[0]}: not loaded; there are: {', '.join(self._weights) or 'none'}")
        self.unfuse()
        self._weights.update({name: float(weight) for name, weight in weights.items()})
        self._switch_on()

    @property
    def share(self) -> float:
        """Part of their weights at which all work now; 1 but for ``dimmed``."""
        return self._share

    @contextmanager
    def dimmed(self, share: float) -> Iterator[None]:
        """Inside, all work at ``share`` of their weights."""
        self.unfuse()
        kept = [(layer.scaling, dict(layer.scaling)) for layer in adapters.lora_layers(self._transformer)]
        before = self._share
        self._share = before * share
        try:
            for scaling, values in kept:
                scaling.update({name: value * share for name, value in values.items()})
            yield
        finally:
            for scaling, values in kept:
                scaling.update(values)
            self._share = before

    def fuse(self) -> None:
        """Adds all adapters into the base's weights: no extra time per step; undone by ``unfuse`` up to rounding.

        Raises:
            WeightsError: an adapter is being trained, or the base is quantized.
        """
        if getattr(self._transformer, "hf_quantizer", None) is not None:
            raise WeightsError(
                "backbone.fuse_adapters: a quantized base would be rounded again; leave adapters beside it"
            )
        if self._trainable:
            raise WeightsError(f"adapter {min(self._trainable)}: it is being trained, so it cannot be fused")
        if self._weights and not self.fused:
            self._transformer.fuse_lora(adapter_names=list(self._weights))
            self.fused = True

    def unfuse(self) -> None:
        """Takes fused adapters out of the base's weights again."""
        if self.fused:
            self._transformer.unfuse_lora()
            self.fused = False

    def write(self, folder: Path, name: str, metadata: Mapping[str, str], dtype: torch.dtype) -> Path:
        """One adapter's file, as diffusers writes it."""
        if name not in self._weights:
            raise WeightsError(f"adapter {name}: not loaded, so it cannot be saved")
        return adapters.write_lora(self._family, self._transformer, folder, name, metadata, dtype)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """LoRA pairs of the trainable adapters, float32, by the transformer's parameter names."""
        named = [adapters.adapter_parameters(self._transformer, name) for name in sorted(self._trainable)]
        return {key: value for parameters in named for key, value in parameters.items()}

    def _refuse_second(self, name: str) -> None:
        if name in self._weights:
            raise WeightsError(f"adapter {name}: there is one of this name already; give the second another name")

    def _switch_on(self) -> None:
        """All adapters active with their weights; only trainable ones take gradients (peft turns all on)."""
        device = next(iter(self._transformer.parameters())).device
        self._transformer.set_adapters(list(self._weights), list(self._weights.values()))
        self._transformer.requires_grad_(False)
        for parameter in self.trainable_parameters().values():
            parameter.requires_grad_(True)
        self._transformer.to(device)
