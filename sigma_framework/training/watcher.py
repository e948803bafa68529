"""What happens between two steps of a run: records, validation, pictures, checkpoints, stopping."""

from __future__ import annotations

import signal
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch

from sigma_framework.errors import RunError, RunInterrupted
from sigma_framework.progress import Progress
from sigma_framework.training.checkpoints import path_of
from sigma_framework.training.data_module import SigmaDataModule
from sigma_framework.training.lightning_module import Batch, SigmaModule
from sigma_framework.training.ranks import OUT_OF_TIME
from sigma_framework.training.record import RunRecord
from sigma_framework.training.signals import listen, requeue
from sigma_framework.training.training_run import TrainingRun

_RECENT = 100
"""Steps that the watches of bad steps and of spikes look back on."""
_ENOUGH = 20
"""Losses before a median means something."""


class Watcher(pl.Callback):
    """Records, validates, draws, saves and listens for signals, all between two steps."""

    def __init__(self, run: TrainingRun, data: SigmaDataModule, progress: Progress) -> None:
        self.run, self.data, self.progress = run, data, progress
        self.record = RunRecord(run.folder, run.options.loggers)
        self.began: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.fixed: dict[int, Batch] = {}
        self.stopped_by = 0
        self.out_of_time = False
        self._losses: deque[float] = deque(maxlen=_RECENT)
        self._bad: deque[bool] = deque(maxlen=_RECENT)
        self._saved = -1
        self._remarked = False
        self._waiting: SigmaModule | None = None
        """The module while the run waits for data: nothing is half done then."""
        self._clock = self._started = time.perf_counter()
        self._restore: Callable[[], None] = lambda: None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Before the first step of this process."""
        assert isinstance(module, SigmaModule)
        module.stop_wish = self._wish
        self._saved = module.run_step if module.resumed else -1
        self._restore = listen(self._stop)
        self.progress.begin("training", self.run.plan.total_steps, module.run_step)
        stage, inner = self.run.plan.stage_of(module.run_step)
        if inner == 0:
            self._begin_stage(module, stage, module.run_step)
        if module.shards_told:
            self.progress.note(module.shards_told)
        self._clock = time.perf_counter()
        self._wait(module)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """The data are there."""
        self._waiting = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each part of a step; all work is after its last."""
        assert isinstance(module, SigmaModule)
        if module.report is None:
            return
        done = module.steps_done
        stage, inner = self.run.plan.stage_of(module.run_step)
        last_of_stage = inner + 1 == self.run.plan.stages[stage].steps
        self._write(module, stage, done, last_of_stage)
        self._judge(module, done)
        self._remark()
        if last_of_stage or (self.run.options.grid_every and done % self.run.options.grid_every == 0):
            self._draw(module, stage, done)
        if last_of_stage or done % self.run.options.checkpoint_every == 0:
            self._save(module)
        if last_of_stage and done < self.run.plan.total_steps:
            self._begin_stage(module, stage + 1, done)
        self._end_if_asked(module, done)
        self._clock = time.perf_counter()
        if not trainer.should_stop:
            self._wait(module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Puts the signal handlers back and closes the records."""
        self._waiting = None
        self._restore()
        self.progress.finish()
        self.record.close()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self.on_train_end(trainer, module)

    def raise_if_stopped(self) -> None:
        """Turns a stop that was asked for into the error that says how to go on."""
        if self.stopped_by:
            raise self._interruption()

    def validation_table(self) -> tuple[tuple[str, float, float], ...]:
        """(stage, loss at its start, loss at its end)."""
        nan = float("nan")
        names = [stage.name for stage in self.run.plan.stages]
        return tuple((name, self.began.get(i, nan), self.ended.get(i, nan)) for i, name in enumerate(names))

    def _write(self, module: SigmaModule, stage: int, done: int, last_of_stage: bool) -> None:
        """The step's line of metrics, with a validation loss where one is due."""
        assert module.report is not None
        values: dict[str, object] = {
            "step": done,
            "stage": self.run.plan.stages[stage].name,
            "loss": module.report.loss,
            "d_lr": module.step_size(),
            "examples_per_second": module.report.examples / max(time.perf_counter() - self._clock, 1e-9),
        }
        every = self.run.options.validate_every
        if last_of_stage or (every and done % every == 0):
            value = self._validate(module, stage)
            values["val_loss"] = value
            if last_of_stage:
                self.ended[stage] = value
        if module.trainer.is_global_zero:
            self.record.add(values)
        facts = f"{values['stage']}  loss {module.report.loss:.4f}  d*lr {values['d_lr']:.2e}"
        self.progress.advance(facts=facts)

    def _judge(self, module: SigmaModule, done: int) -> None:
        """Names the examples of a step that was held back or stands out.

        Raises:
            RunError: more steps were held back than the recipe allows.
        """
        report, options = module.report, self.run.options
        assert report is not None
        self._bad.append(not report.finite)
        if report.finite:
            usual = statistics.median(self._losses) if len(self._losses) >= _ENOUGH else 0.0
            if options.spike_factor and usual and report.loss > options.spike_factor * usual:
                names = ", ".join(module.names_of_step(finite_too=True))
                self.progress.note(f"step {done}: the loss is {report.loss:.4g}, lately {usual:.4g}, on {names}")
            self._losses.append(report.loss)
            return
        names = ", ".join(module.names_of_step(finite_too=False) or module.names_of_step(finite_too=True))
        what = f"the loss is {report.loss}" if report.loss - report.loss != 0 else "the gradient is not finite"
        told = f"step {done}: {what} on {names}; nothing was updated"
        if sum(self._bad) <= options.max_bad_steps:
            self.progress.note(told)
            return
        raise RunError(
            f"{told}, and train.max_bad_steps is {options.max_bad_steps}. Look at these examples, or lower "
            "train.optimizer.d_coef (prodigy) or lr (adamw, muon) with --allow train.optimizer; run again to go on "
            "from the last checkpoint"
        )

    def _remark(self) -> None:
        """Tells once what the objective has to say."""
        remark = getattr(self.run.objective, "remark", None)
        if remark is not None and not self._remarked and (told := remark()):
            self._remarked = True
            self.progress.note(told)

    def _end_if_asked(self, module: SigmaModule, done: int) -> None:
        """Saves and ends the loop when all processes know of a wish to stop; one process alone need not ask."""
        assert module.report is not None
        stop = module.report.stop or (self._wish() if module.ranks.count == 1 else 0)
        if not stop or done >= self.run.plan.total_steps:
            return
        self.out_of_time = stop == OUT_OF_TIME
        self.stopped_by = 0 if self.out_of_time else stop
        self._save(module)
        module.trainer.should_stop = True

    def _begin_stage(self, module: SigmaModule, stage: int, done: int) -> None:
        """The stage's fixed validation loss before its first step; pictures too before the very first."""
        self.began[stage] = self._validate(module, stage)
        name = self.run.plan.stages[stage].name
        self.progress.note(f"{name}: validation loss {self.began[stage]:.4f} before its first step")
        if module.trainer.is_global_zero:
            self.record.add({"step": done, "stage": name, "val_loss": self.began[stage], "d_lr": module.step_size()})
        if done == 0:
            self._draw(module, stage, 0)

    def _validate(self, module: SigmaModule, stage: int) -> float:
        if not self.run.plan.validation[stage]:
            return float("nan")
        if stage not in self.fixed:
            self.fixed = {stage: self.data.fixed(self.run.plan.validation[stage])}
        return module.validation_loss(self.fixed[stage], self.run.options.validation_batch_size)

    def _draw(self, module: SigmaModule, stage: int, done: int) -> None:
        """A grid of the same validation scenes of all stages every time, so that any two grids can be compared.

        Processes that share the base's weights all draw it; the first one keeps it.
        """
        count = self.run.options.grid_scenes
        pools = [pool for pool in self.run.plan.validation if pool]
        if not count or not pools or not (self.run.first_process or module.sharded):
            return
        chosen = [pools[i % len(pools)][i // len(pools) % len(pools[i % len(pools)])] for i in range(count)]
        with torch.no_grad(), module.buffers_of_trained.unchanged():
            rows = self.run.objective.pictures([example for _, example in self.data.fixed(chosen)], self.run.plan.seed)
        if not self.run.first_process:
            return
        name = f"{self.run.plan.stages[stage].name}-{done:06d}"
        self.record.add_grid(name, done, rows, getattr(self.run.objective, "picture_titles", ()))

    def _save(self, module: SigmaModule) -> None:
        """A checkpoint of the steps done, once."""
        if self._saved == module.steps_done:
            return
        self._saved = module.steps_done
        module.trainer.save_checkpoint(path_of(self.run.folder / "checkpoints", module.steps_done), weights_only=False)

    def _wish(self) -> int:
        """What this process wants: a signal's number, the time limit, or to go on."""
        limit = self.run.options.time_limit_minutes
        over = limit and time.perf_counter() - self._started > 60 * limit
        return self.stopped_by or (OUT_OF_TIME if over else 0)

    def _wait(self, module: SigmaModule) -> None:
        """From here until data come a signal may end the run at once; one that came just before does."""
        self._waiting = module
        if self.stopped_by:
            self._stop_waiting()

    def _stop(self, number: int) -> None:
        if self.stopped_by and number == signal.SIGINT:  # Lightning would turn KeyboardInterrupt into exit 1
            raise RunInterrupted(f"stopped at once; go on with: {self.run.resume_line}", number)
        self.stopped_by = number
        self.progress.note(
            f"{signal.Signals(number).name}: finishing this step and saving; press Ctrl-C again to stop at once"
        )
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        """Waiting for data can take for ever; several processes wait on, since they must save at one step."""
        module, self._waiting = self._waiting, None
        if module is not None and module.ranks.count == 1:
            self._save(module)
            raise self._interruption()

    def _interruption(self) -> RunInterrupted:
        told = requeue() if self.stopped_by == signal.SIGUSR1 and self.run.first_process else ""
        name = signal.Signals(self.stopped_by).name
        text = f"stopped by {name}, the state is saved; go on with: {self.run.resume_line}"
        return RunInterrupted(f"{text}; {told}" if told else text, self.stopped_by)
