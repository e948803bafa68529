"""Text encoders that make room when no prompt is left to encode, and come back for the next one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class RestingText:
    """The text encoders of one base, and whether they are away."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        self._encoders = encoders
        self._rest = False

    def moved(self) -> None:
        """Somebody has moved them: they are taken to be where they are used."""
        self._rest = False

    def rest(self, device: torch.device) -> None:
        """From ``device`` to the CPU."""
        if self._rest:
            return
        send_away(self._encoders, device)
        self._rest = True

    def wake(self, device: torch.device) -> None:
        """Back to ``device``."""
        if self._rest:
            for encoder in self._encoders:
                encoder.to(device)
            self._rest = False


def send_away(models: Sequence[nn.Module], device: torch.device) -> None:
    """Models from ``device`` to the CPU, and their memory to whoever comes next."""
    for model in models:
        model.to("cpu")
    if device.type == "cuda":
        torch.cuda.empty_cache()
