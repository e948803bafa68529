"""The Lightning side of a run: one optimizer, one objective, steps counted over the whole curriculum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from sigma_framework.errors import RunError
from sigma_framework.protocols import Objective
from sigma_framework.training.curriculum import BatchPlan, ExampleKey
from sigma_framework.training.optimizers import build_optimizer, effective_lr, hand_over, learning_rate_factor
from sigma_framework.training.position import TRAINING, VALIDATION, torch_generator
from sigma_framework.types import Example

Batch = Sequence[tuple[ExampleKey, Example]]


class SigmaModule(pl.LightningModule):
    """Minimises an objective along a batch plan.

    Args:
        objective: what is minimised.
        plan: which examples at which step.
        optimizer_options: the recipe's ``train.optimizer`` block.
        hand_overs: per stage, what happens to the optimizer when it begins.
        first_step: steps done before (a resumed run).
        optimizer_state: state to go on with.
    """

    def __init__(
        self,
        objective: Objective,
        plan: BatchPlan,
        optimizer_options: Any,
        hand_overs: Sequence[str],
        *,
        first_step: int = 0,
        optimizer_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.objective, self.plan, self.optimizer_options = objective, plan, optimizer_options
        self.hand_overs = tuple(hand_overs)
        self.run_step = first_step
        self._optimizer_state = optimizer_state
        self._parameters_by_name = dict(objective.trainable_parameters())
        self.parts = torch.nn.ModuleList(objective.modules())

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What the optimizer changes, by stable name."""
        return self._parameters_by_name

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimizer, with the state of the run that is resumed."""
        optimizer = build_optimizer(self.optimizer_options, self._parameters_by_name)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        return optimizer

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Examples are NumPy pictures; the objective moves what it makes of them."""
        return batch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begins a stage when its first batch comes, and sets the learning rate of this step."""
        stage, inner = self.plan.stage_of(self.run_step)
        optimizer = self.trainer.optimizers[0]
        if inner == 0 and stage > 0:
            hand_over(optimizer, self.hand_overs[stage])  # type: ignore[arg-type]  # checked by the recipe's schema
        factor = learning_rate_factor(self.optimizer_options, self.run_step, self.plan.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = self.optimizer_options.lr * factor

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Mean loss of the batch; every draw follows from the position of its example."""
        generators = [torch_generator(self.plan.seed, TRAINING, key.stage, key.position) for key, _ in batch]
        loss = self.objective.loss([example for _, example in batch], generators).mean()
        if not bool(torch.isfinite(loss)):
            names = ", ".join(example.key for _, example in batch)
            raise RunError(
                f"step {self.run_step + 1}: the loss is {float(loss.detach())} on {names}; nothing was updated. "
                "Look at these examples, or lower train.optimizer.d_coef (prodigy) or lr (adamw); run again to go on "
                "from the last checkpoint"
            )
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """One step further."""
        self.run_step += 1

    @torch.no_grad()
    def validation_loss(self, examples: Batch, batch_size: int) -> float:
        """Mean loss on fixed examples with fixed t and noise; examples are grouped by shape."""
        groups: dict[tuple[int, ...], list[tuple[ExampleKey, Example]]] = {}
        for key, example in examples:
            groups.setdefault((len(example.subjects), *example.target.shape), []).append((key, example))
        losses = []
        for group in groups.values():
            for start in range(0, len(group), batch_size):
                part = group[start : start + batch_size]
                generators = [torch_generator(self.plan.seed, VALIDATION, 0, key.position) for key, _ in part]
                losses.append(self.objective.loss([example for _, example in part], generators).cpu())
        return float(torch.cat(losses).mean())

    def step_size(self) -> float:
        """``d * lr`` now."""
        return effective_lr(self.trainer.optimizers[0])
