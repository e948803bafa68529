"""One training run from its first step or from its newest checkpoint to the weights it is for."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from sigma_framework.errors import RunError, RunInterrupted
from sigma_framework.progress import Progress
from sigma_framework.protocols import DataSource, Objective
from sigma_framework.training.checkpoints import Checkpoint, load_newest, save_checkpoint, sweep_temporaries
from sigma_framework.training.curriculum import BatchPlan
from sigma_framework.training.data_module import SigmaDataModule
from sigma_framework.training.lightning_module import Batch, SigmaModule
from sigma_framework.training.record import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """Everything a run needs, built from a recipe."""

    objective: Objective
    """What is minimised and saved."""
    sources: Mapping[str, DataSource]
    """By the recipe's names."""
    plan: BatchPlan
    """Which examples at which step."""
    folder: Path
    """The run folder; exists."""
    weights_folder: Path
    """Where the result is written at the end."""
    recipe_yaml: str
    """The resolved recipe, stored in checkpoints."""
    options: Any
    """The recipe's ``train`` block."""
    hand_overs: tuple[str, ...]
    """Per stage: keep, carry_d or reset."""
    resume_line: str
    """The command that goes on with this run."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How a run ended."""

    steps: int
    validation: tuple[tuple[str, float, float], ...]
    """(stage, fixed validation loss at its start, at its end); NaN where this process did not see it."""
    weights: Path
    """Where the result is; absent until the plan is complete."""
    notes: tuple[str, ...]
    """What people should know, e.g. a damaged checkpoint that was passed over."""
    complete: bool = True
    """False when the time limit ended it before the plan."""


def run_training(run: TrainingRun, progress: Progress) -> TrainingOutcome:
    """Trains to the end of the plan, from the newest good checkpoint if there is one.

    Raises:
        RunInterrupted: a signal came; the state is saved and the message says how to go on.
        RunError: the loss is not finite, or the disk is full.
    """
    if run.options.threads:
        torch.set_num_threads(run.options.threads)
    sweep_temporaries(run.folder / "checkpoints")
    state, notes = load_newest(run.folder / "checkpoints")
    for note in notes:
        progress.note(note)
    module = SigmaModule(
        run.objective,
        run.plan,
        run.options.optimizer,
        run.hand_overs,
        first_step=state.step if state else 0,
        optimizer_state=dict(state.optimizer) if state else None,
    )
    if state is not None:
        _load_parameters(module, state)
        progress.note(f"resuming at step {state.step} of {run.plan.total_steps}")
    data = SigmaDataModule(run.sources, run.plan, first_step=module.run_step, workers=run.options.num_workers)
    watcher = _Watcher(run, data, progress)
    if module.run_step < run.plan.total_steps:
        with _quiet_lightning():
            _trainer(run, watcher).fit(module, datamodule=data)
    watcher.raise_if_stopped()
    if watcher.out_of_time:
        notes.append(f"train.time_limit_minutes is over, the state is saved; go on with: {run.resume_line}")
    elif is_first_process():
        run.objective.save(run.weights_folder)
    table = watcher.validation_table()
    return TrainingOutcome(module.run_step, table, run.weights_folder, tuple(notes), complete=not watcher.out_of_time)


def _trainer(run: TrainingRun, watcher: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1,
        accelerator="auto",
        devices=run.options.devices,
        precision="bf16-mixed" if run.options.precision == "bf16" else "32-true",
        gradient_clip_val=run.options.gradient_clip or None,
        callbacks=[watcher],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(run.folder),
    )


class _Watcher(pl.Callback):
    """Records, validates, draws, saves and listens for signals, all between two steps."""

    def __init__(self, run: TrainingRun, data: SigmaDataModule, progress: Progress) -> None:
        self.run, self.data, self.progress = run, data, progress
        self.record = RunRecord(run.folder)
        self.began: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.fixed: dict[int, Batch] = {}
        self.stopped_by: int | None = None
        self.out_of_time = False
        self._clock = self._started = time.perf_counter()
        self._restore: Callable[[], None] = lambda: None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, SigmaModule)
        self._restore = _listen(self._stop)
        self.progress.begin("training", self.run.plan.total_steps, module.run_step)
        stage, inner = self.run.plan.stage_of(module.run_step)
        if inner == 0:
            self._begin_stage(module, stage, module.run_step)
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Called before the module counts the step, so the step just done is ``run_step + 1``."""
        assert isinstance(module, SigmaModule)
        loss = float(outputs["loss"])
        done = module.run_step + 1
        stage, inner = self.run.plan.stage_of(module.run_step)
        now = time.perf_counter()
        values: dict[str, object] = {
            "step": done,
            "stage": self.run.plan.stages[stage].name,
            "loss": loss,
            "d_lr": module.step_size(),
            "examples_per_second": len(batch) * trainer.world_size / max(now - self._clock, 1e-9),
        }
        last_of_stage = inner + 1 == self.run.plan.stages[stage].steps
        every = self.run.options.validate_every
        if last_of_stage or (every and done % every == 0):
            values["val_loss"] = self._validate(module, stage)
            if last_of_stage:
                self.ended[stage] = float(values["val_loss"])  # type: ignore[arg-type]  # just set to a float
        if trainer.is_global_zero:
            self.record.add(values)
        self.progress.advance(facts=f"{values['stage']}  loss {loss:.4f}  d*lr {values['d_lr']:.2e}")
        self._draw_or_save(module, stage, inner, done, last_of_stage)
        if last_of_stage and done < self.run.plan.total_steps:
            self._begin_stage(module, stage + 1, done)
        limit = self.run.options.time_limit_minutes
        if limit and now - self._started > 60 * limit and done < self.run.plan.total_steps:
            self.out_of_time = True
        if self.stopped_by is not None or self.out_of_time:
            self._save(module, done)
            trainer.should_stop = True
        self._clock = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._restore()
        self.progress.finish()
        self.record.close()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, module)

    def raise_if_stopped(self) -> None:
        """Turns a stop that was asked for into the error that says how to go on."""
        if self.stopped_by is not None:
            name = signal.Signals(self.stopped_by).name
            raise RunInterrupted(
                f"stopped by {name}, the state is saved; go on with: {self.run.resume_line}", self.stopped_by
            )

    def validation_table(self) -> tuple[tuple[str, float, float], ...]:
        """(stage, loss at its start, loss at its end)."""
        nan = float("nan")
        names = [stage.name for stage in self.run.plan.stages]
        return tuple((name, self.began.get(i, nan), self.ended.get(i, nan)) for i, name in enumerate(names))

    def _begin_stage(self, module: SigmaModule, stage: int, done: int) -> None:
        """The stage's fixed validation loss before its first step; pictures too before the very first."""
        self.began[stage] = self._validate(module, stage)
        name = self.run.plan.stages[stage].name
        self.progress.note(f"{name}: validation loss {self.began[stage]:.4f} before its first step")
        if module.trainer.is_global_zero:
            self.record.add({"step": done, "stage": name, "val_loss": self.began[stage], "d_lr": module.step_size()})
        if done == 0:
            self._draw(stage, 0)

    def _draw_or_save(self, module: SigmaModule, stage: int, inner: int, done: int, last_of_stage: bool) -> None:
        if last_of_stage or (self.run.options.grid_every and done % self.run.options.grid_every == 0):
            self._draw(stage, done)
        if last_of_stage or done % self.run.options.checkpoint_every == 0:
            self._save(module, done)

    def _validate(self, module: SigmaModule, stage: int) -> float:
        if not self.run.plan.validation[stage]:
            return float("nan")
        if stage not in self.fixed:
            self.fixed = {stage: self.data.fixed(self.run.plan.validation[stage])}
        return module.validation_loss(self.fixed[stage], self.run.options.validation_batch_size)

    def _draw(self, stage: int, done: int) -> None:
        """A grid of the same validation scenes of all stages every time, so that any two grids can be compared."""
        count = self.run.options.grid_scenes
        pools = [pool for pool in self.run.plan.validation if pool]
        if not count or not pools or not is_first_process():
            return
        chosen = [pools[i % len(pools)][i // len(pools) % len(pools[i % len(pools)])] for i in range(count)]
        with torch.no_grad():
            rows = self.run.objective.pictures([example for _, example in self.data.fixed(chosen)], self.run.plan.seed)
        name = f"{self.run.plan.stages[stage].name}-{done:06d}"
        self.record.add_grid(name, done, rows, getattr(self.run.objective, "picture_titles", ()))

    def _save(self, module: SigmaModule, done: int) -> None:
        optimizer = module.trainer.optimizers[0].state_dict()
        state = Checkpoint(step=done, parameters=module.trained, optimizer=optimizer, recipe=self.run.recipe_yaml)
        if module.trainer.is_global_zero:
            save_checkpoint(self.run.folder / "checkpoints", state)

    def _stop(self, number: int) -> None:
        if (
            self.stopped_by is not None and number == signal.SIGINT
        ):  # Lightning would turn KeyboardInterrupt into exit 1
            raise RunInterrupted(f"stopped at once; go on with: {self.run.resume_line}", number)
        self.stopped_by = number
        self.progress.note(
            f"{signal.Signals(number).name}: finishing this step and saving; press Ctrl-C again to stop at once"
        )


def is_first_process() -> bool:
    """Whether this is the only process or the one that writes; launchers say so in the environment."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def _load_parameters(module: SigmaModule, state: Checkpoint) -> None:
    """Copies a checkpoint's weights into the objective.

    Raises:
        RunError: the names or shapes differ from what this recipe trains.
    """
    trained = module.trained
    wrong = [
        name for name in trained if name not in state.parameters or state.parameters[name].shape != trained[name].shape
    ]
    if wrong or set(state.parameters) != set(trained):
        raise RunError(
            f"the checkpoint holds other weights than this recipe trains ({len(wrong)} differ, first: "
            f"{(wrong or ['-'])[0]}); use --fresh to start anew"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state.parameters[name].to(parameter))


def _listen(stop: Callable[[int], None]) -> Callable[[], None]:
    """Has SIGINT and SIGTERM call ``stop``; returns what puts the earlier handlers back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _: stop(got)) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keeps notes about hardware, loaders and cut prompts, repeated at every step, out of the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        try:
            yield
        finally:
            logging.disable(before)
