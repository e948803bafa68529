"""The Lightning side of a run: one optimizer, one objective, steps counted over the whole curriculum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from sigma_framework.errors import RunError
from sigma_framework.protocols import Objective
from sigma_framework.training.buffers import TrainedBuffers
from sigma_framework.training.checkpoints import FORMAT
from sigma_framework.training.curriculum import BatchPlan, ExampleKey
from sigma_framework.training.optimizers import (
    build_optimizer,
    choose_options,
    chosen_options,
    effective_lr,
    hand_over,
    learning_rate_factor,
)
from sigma_framework.training.position import TRAINING, VALIDATION, seed_ambient, torch_generator
from sigma_framework.training.ranks import Ranks, StepReport
from sigma_framework.training.sharding import shard_frozen
from sigma_framework.types import Example

Batch = Sequence[tuple[ExampleKey, Example]]


class _HeldBackError(Exception):
    """Leaves the optimizer between the backward pass and the update."""


class SigmaModule(pl.LightningModule):
    """Minimises an objective along a batch plan.

    A step reads the device once, where its update is decided; ``training_step`` never does.

    Args:
        objective: what is minimised.
        plan: which examples at which step.
        optimizer_options: the recipe's ``train.optimizer`` block.
        hand_overs: per stage, what happens to the optimizer when it begins.
        recipe: the resolved recipe as YAML, for checkpoints.
        data: facts of the data sources, for checkpoints.
        accumulate: parts of a step.
        sharded: whether the processes share the frozen weights.
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
        recipe: str = "",
        data: Mapping[str, str] | None = None,
        accumulate: int = 1,
        sharded: bool = False,
        first_step: int = 0,
        optimizer_state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.objective, self.plan, self.optimizer_options = objective, plan, optimizer_options
        self.hand_overs, self.recipe, self.accumulate = tuple(hand_overs), recipe, accumulate
        self.data = dict(data or {})
        self.sharded, self.shards_told = sharded, ""
        self.run_step = self.steps_done = first_step
        self.report: StepReport | None = None
        """What became of the step that just ended; None inside a step."""
        self.stop_wish: Callable[[], int] = lambda: 0
        """Asked once per step; see ``StepReport.stop``."""
        self.resumed = optimizer_state is not None
        self._optimizer_state = optimizer_state
        self._parameters_by_name = dict(objective.trainable_parameters())
        modules = list(objective.modules())
        self._places_itself = not sharded and bool(getattr(objective, "places_itself", False))
        self.parts = torch.nn.ModuleList(self._moved_by_lightning(modules))
        self.buffers_of_trained = TrainedBuffers(modules, self._parameters_by_name)
        self._parts_of_step: list[tuple[Batch, torch.Tensor]] = []

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What the optimizer changes, by stable name."""
        return self._parameters_by_name

    def _moved_by_lightning(self, modules: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
        """All, or only those with trained weights: Lightning would bring to the device what is kept off it."""
        if not self._places_itself:
            return list(modules)
        known = {id(parameter) for parameter in self._parameters_by_name.values()}
        return [one for one in modules if any(id(parameter) in known for parameter in one.parameters())]

    def configure_model(self) -> None:
        """Spreads the frozen weights over the processes, when they are to share them."""
        if not self.sharded or self.shards_told:
            return
        device = self.trainer.strategy.root_device
        self.to(device)
        whole, mine = shard_frozen(list(self.parts), list(self.trained.values()), device)
        self.shards_told = f"each process holds {mine / 1e6:.1f} of {whole / 1e6:.1f} MB of frozen weights"
        frozen = [name for name, one in self.named_parameters() if not one.requires_grad]
        ignore: Any = torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self, frozen)  # a frozen weight is never synchronised

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimizer."""
        return build_optimizer(self.optimizer_options, self._parameters_by_name)

    def on_fit_start(self) -> None:
        """Meets the other processes; goes on with the optimizer's state of the run that is resumed."""
        self.ranks = Ranks()
        if self._places_itself:
            self.objective.place(self.trainer.strategy.root_device)  # type: ignore[attr-defined]  # it says that it can
        if len(starts := set(self.ranks.join([str(self.run_step)]))) > 1:
            raise RunError(
                f"the processes found checkpoints of different steps ({', '.join(sorted(starts))}); "
                "the run folder must be on a disk that all of them see alike"
            )
        if self._optimizer_state is not None:
            (optimizer,) = self.trainer.optimizers
            chosen = chosen_options(optimizer)
            self.trainer.strategy.load_optimizer_state_dict({"optimizer_states": [self._optimizer_state]})
            choose_options(optimizer, chosen)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Examples are NumPy pictures; the objective moves what it makes of them."""
        return batch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begins a stage when its first batch comes, and sets the learning rate of this step."""
        self.report = None
        if batch_idx % self.accumulate:
            return
        self._parts_of_step = []
        self.buffers_of_trained.keep()
        stage, inner = self.plan.stage_of(self.run_step)
        optimizer = self.trainer.optimizers[0]
        if inner == 0 and stage > 0:
            hand_over(optimizer, self.hand_overs[stage])  # type: ignore[arg-type]  # checked by the recipe's schema
        factor = learning_rate_factor(self.optimizer_options, self.run_step, self.plan.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = self.optimizer_options.lr * factor

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """This part's share of the step's loss; every draw follows from the position of its example."""
        first = batch[0][0]
        seed_ambient(self.plan.seed, TRAINING, first.stage, first.position)
        generators = [torch_generator(self.plan.seed, TRAINING, key.stage, key.position) for key, _ in batch]
        losses = self.objective.loss([example for _, example in batch], generators)
        self._parts_of_step.append((batch, losses.detach()))
        # Lightning divides by the number of parts, and the mean of gradients over processes divides by theirs.
        parts = self.accumulate * self.trainer.world_size
        return losses.mean() * (len(batch) * parts / self.plan.weight_total(self.run_step))

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips, and holds the update back when the loss or the gradient is not finite in any process.

        The step's one look at the device is here: an optimizer cannot be kept from updating without knowing.
        """
        gradients = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        largest = gradient_clip_val if gradient_clip_val else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(gradients, largest)
        losses = torch.cat([losses for _, losses in self._parts_of_step])
        loss, gradient_norm = torch.stack([losses.mean(), norm.to(losses)]).tolist()
        self.report = self.ranks.agree(loss, len(losses), gradient_norm, self.stop_wish())
        if not self.report.finite:
            raise _HeldBackError

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """One update, or none."""
        try:
            optimizer.step(closure=optimizer_closure)
        except _HeldBackError:
            optimizer.zero_grad()
            self.buffers_of_trained.put_back()
        self.steps_done = self.run_step + 1

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """One step further, when its last part is done."""
        self.run_step = self.steps_done

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves in a checkpoint what a resume reads: no frozen weight, no loop counters (the plan has them)."""
        for unread in ("loops", "lr_schedulers", "callbacks", "epoch", "global_step"):
            checkpoint.pop(unread, None)
        checkpoint["state_dict"] = dict(self.trained)
        checkpoint["buffers"] = self.buffers_of_trained.live()
        checkpoint.update(format=FORMAT, step=self.steps_done, seed=self.plan.seed)
        checkpoint.update(recipe=self.recipe, data=self.data)

    def names_of_step(self, *, finite_too: bool) -> list[str]:
        """Keys of the step's examples over all processes, those with a finite loss on request; reads the device."""
        bad = [
            example.key
            for batch, losses in self._parts_of_step
            for (_, example), loss in zip(batch, losses.tolist(), strict=True)
            if finite_too or not abs(loss) < float("inf")
        ]
        return self.ranks.join(bad)

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
                seed_ambient(self.plan.seed, VALIDATION, 0, part[0][0].position)
                generators = [torch_generator(self.plan.seed, VALIDATION, 0, key.position) for key, _ in part]
                with self.buffers_of_trained.unchanged():
                    losses.append(self.objective.loss([example for _, example in part], generators))
        return float(torch.cat(losses).mean())

    def step_size(self) -> float:
        """``d * lr`` now."""
        return effective_lr(self.trainer.optimizers[0])
