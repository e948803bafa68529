"""One training run from its first step or from its newest checkpoint to the weights it is for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from sigma_framework.errors import RunError
from sigma_framework.exhaustion import LESS_TO_TRAIN, told_when_exhausted
from sigma_framework.progress import Progress
from sigma_framework.run_folder import is_accepted
from sigma_framework.training.average import RunningAverage
from sigma_framework.training.checkpoints import (
    Checkpoint,
    VerifiedCheckpoints,
    bytes_of,
    find_newest,
    refuse_full_disk,
    set_damaged_aside,
    sweep_unfinished,
)
from sigma_framework.training.data_module import SigmaDataModule, facts_of
from sigma_framework.training.lightning_module import SigmaModule
from sigma_framework.training.result import save_result
from sigma_framework.training.training_run import TrainingOutcome, TrainingRun
from sigma_framework.training.watcher import Watcher

_COPIES = 5
"""A weight and at most four values of the optimizer for it (Prodigy), to tell a full disk before the first step."""


def run_training(run: TrainingRun, progress: Progress) -> TrainingOutcome:
    """Trains to the end of the plan, from the newest good checkpoint if there is one.

    Raises:
        RunInterrupted: a signal came; the state is saved and the message says how to go on.
        RunError: too many steps without a finite loss, no room for two checkpoints, or memory ran out.
    """
    options = run.options
    if options.threads:
        torch.set_num_threads(options.threads)
    state, notes = _newest(run, progress)
    facts = facts_of(run.sources)
    _refuse_other_data(run, state, facts)
    module = SigmaModule(
        run.objective,
        run.plan,
        options.optimizer,
        run.hand_overs,
        recipe=run.recipe_yaml,
        data=facts,
        accumulate=options.accumulate,
        sharded=is_sharded(run),
        first_step=state.step if state else 0,
        optimizer_state=state.optimizer if state else None,
    )
    if state is not None:
        _load_parameters(module, state)
        _load_buffers(module, state, progress)
        progress.note(f"resuming at step {state.step} of {run.plan.total_steps}")
    if module.run_step < run.plan.total_steps:
        refuse_full_disk(run.folder, _room_for_two(run, module, state))
    data = SigmaDataModule(
        run.sources,
        run.plan,
        first_step=module.run_step,
        workers=options.num_workers,
        accumulate=options.accumulate,
    )
    watcher = Watcher(run, data, progress)
    average = _average(module, options.ema_decay, state)
    if module.run_step < run.plan.total_steps:
        with _quiet_lightning(), _told_of_workers(run), told_when_exhausted("training", LESS_TO_TRAIN):
            _trainer(run, [*([average] if average else []), watcher]).fit(module, datamodule=data)
    watcher.raise_if_stopped()
    if watcher.out_of_time:
        notes.append(f"train.time_limit_minutes is over, the state is saved; go on with: {run.resume_line}")
    elif run.first_process:
        with average.in_place() if average else nullcontext():
            save_result(run, module.run_step)
    table = watcher.validation_table()
    return TrainingOutcome(module.run_step, table, run.weights_folder, tuple(notes), complete=not watcher.out_of_time)


def _newest(run: TrainingRun, progress: Progress) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, and notes on those that cannot be used; only the first process tidies up."""
    folder = run.folder / "checkpoints"
    if run.first_process:
        for path in sweep_unfinished(folder):
            progress.note(f"{path.name} was removed: its save was not finished")
    found = find_newest(folder)
    for note in found.notes:
        progress.note(note)
    if run.first_process:
        set_damaged_aside(found)
    return found.newest, found.notes


def _room_for_two(run: TrainingRun, module: SigmaModule, state: Checkpoint | None) -> int:
    """Bytes for the next checkpoint and the one to fall back on, less what is there already."""
    if state is None:
        return 2 * _COPIES * bytes_of(module.trained)
    there = len(list((run.folder / "checkpoints").glob("step-*.pt")))
    return max(1, 2 - there) * bytes_of((state.parameters, state.optimizer, state.average))


def _refuse_other_data(run: TrainingRun, state: Checkpoint | None, facts: Mapping[str, str]) -> None:
    """Raises RunError when the sources no longer give the examples that the run's steps were planned from."""
    if state is None or state.step >= run.plan.total_steps:
        return
    for name, then in state.data.items():
        now, key = facts.get(name, then), f"datasources.{name}"
        accepted = is_accepted(key, run.allow) or any(one.startswith(f"{key}.") for one in run.allow)
        if now != then and not accepted:
            raise RunError(
                f"{key}: found {now} (digest of their shapes), but the run was begun with {then}: its next steps would "
                f"not be those planned; bring the data back, --allow {key} goes on with these, --fresh starts anew"
            )


def is_sharded(run: TrainingRun) -> bool:
    """Whether the processes share the frozen weights.

    Raises:
        RunError: what is trained is no adapter, so that there are hardly any.
    """
    options = run.options
    if options.strategy != "fsdp":
        return False
    if options.objective != "adapter":
        raise RunError(
            f"train.strategy: found fsdp with train.objective {options.objective}, expected an adapter, whose base is "
            "frozen and can be shared; write ddp"
        )
    return bool(options.devices * options.num_nodes > 1)


def _average(module: SigmaModule, decay: float | None, state: Checkpoint | None) -> RunningAverage | None:
    return None if decay is None else RunningAverage(module.trained, decay, state.average if state else {})


def _trainer(run: TrainingRun, callbacks: list[pl.Callback]) -> pl.Trainer:
    options = run.options
    plugins: list[Any] = [VerifiedCheckpoints(options.keep_last)]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # the watcher saves and requeues itself
    return pl.Trainer(
        max_epochs=1,
        accelerator="auto",
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy="ddp" if options.strategy == "fsdp" else options.strategy,
        accumulate_grad_batches=options.accumulate,
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        gradient_clip_val=options.gradient_clip or None,
        callbacks=callbacks,
        plugins=plugins,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(run.folder),
    )


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


def _load_buffers(module: SigmaModule, state: Checkpoint, progress: Progress) -> None:
    """Copies a checkpoint's buffers into the trained modules.

    Raises:
        RunError: the names or shapes differ from what this recipe trains.
    """
    if state.buffers is None:
        if module.buffers_of_trained.live():
            progress.note("the checkpoint is of an earlier version and holds no buffers: they start anew")
        return
    if wrong := module.buffers_of_trained.put(state.buffers):
        raise RunError(
            f"the checkpoint holds other buffers than this recipe trains ({len(wrong)} differ, first: {wrong[0]}); "
            "use --fresh to start anew"
        )


@contextmanager
def _told_of_workers(run: TrainingRun) -> Iterator[None]:
    """A data worker that something ended, mostly the system for want of memory, is no defect of the program."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(
            f"a data worker ended too early ({' '.join(str(error).split())[:120]}); it may have run out of memory: "
            f"write fewer train.num_workers (found {run.options.num_workers}); go on with: {run.resume_line}"
        ) from error


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
