"""What trained modules record while they learn (running means), beside their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch


class TrainedBuffers:
    """The persistent buffers of those modules that hold no frozen weight.

    A frozen module changes none of its own, and a quantized one keeps its weights in them: they have no place in a
    checkpoint.

    Args:
        modules: an objective's.
        trained: what its optimizer changes.
    """

    def __init__(self, modules: Sequence[torch.nn.Module], trained: Mapping[str, torch.nn.Parameter]) -> None:
        known = {id(parameter) for parameter in trained.values()}
        self._owners = {
            f"{index}.{prefix}.{name}": (owner, name)
            for index, module in enumerate(modules)
            if all(id(parameter) in known for parameter in module.parameters())
            for prefix, owner in module.named_modules()
            for name, _ in owner.named_buffers(recurse=False)
            if name not in owner._non_persistent_buffers_set
        }
        self._kept: dict[str, torch.Tensor] = {}

    def live(self) -> dict[str, torch.Tensor]:
        """By stable name, the tensors themselves."""
        return {key: getattr(owner, name) for key, (owner, name) in self._owners.items()}

    @torch.no_grad()
    def put(self, values: Mapping[str, torch.Tensor]) -> list[str]:
        """Copies values in; returns the names that do not fit, and then copies none."""
        live = self.live()
        wrong = sorted(set(live) ^ set(values))
        wrong += [name for name in live.keys() & values.keys() if live[name].shape != values[name].shape]
        if not wrong:
            for name, value in live.items():
                value.copy_(values[name])
        return wrong

    def keep(self) -> None:
        """Remembers the values of now."""
        self._kept = {name: value.detach().clone() for name, value in self.live().items()}

    def put_back(self) -> None:
        """The values that were remembered."""
        self.put(self._kept)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Whatever happens inside leaves no trace in them."""
        before = {name: value.detach().clone() for name, value in self.live().items()}
        try:
            yield
        finally:
            self.put(before)
