"""An exponential running average of the trained weights, which is often a better result than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch

from sigma_framework.training.lightning_module import SigmaModule


class RunningAverage(pl.Callback):
    """``a <- m a + (1 - m) w`` after each step n, with ``m = min(decay, (1 + n) / (10 + n))``.

    The smaller m of the first steps forgets the weights that training began with. Lightning's own callback would copy
    the frozen weights too.

    Args:
        trained: the weights by name.
        decay: m in the long run.
        state: the average of the run that is resumed; empty starts from the weights.
    """

    def __init__(
        self, trained: Mapping[str, torch.nn.Parameter], decay: float, state: Mapping[str, torch.Tensor]
    ) -> None:
        self.trained, self.decay = dict(trained), decay
        self.values = {name: state.get(name, value.detach()).clone() for name, value in trained.items()}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Follows the weights to their device."""
        self.values = {name: value.to(self.trained[name].device) for name, value in self.values.items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step further, after a step's last part."""
        assert isinstance(module, SigmaModule)
        if module.report is not None:
            self.update(module.steps_done)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after ``step`` steps in."""
        keep = min(self.decay, (1 + step) / (10 + step))
        weights = [self.trained[name].detach() for name in self.values]
        torch._foreach_lerp_(list(self.values.values()), weights, 1 - keep)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Beside the weights: a resume goes on with both."""
        checkpoint["average"] = dict(self.values)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in place of the weights, for saving the result."""
        before = {name: weight.detach().clone() for name, weight in self.trained.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.trained.items():
            weight.copy_(values[name])
