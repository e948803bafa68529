"""Examples of a batch plan as a Lightning data module."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Mapping, Sequence

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data import Sampler as IndexSampler

from sigma_framework.errors import DataError, RunInterrupted, SigmaError
from sigma_framework.protocols import DataSource
from sigma_framework.training.curriculum import BatchPlan, ExampleKey
from sigma_framework.training.signals import LISTENED
from sigma_framework.types import Example

Item = tuple[ExampleKey, Example | DataError]


class ExamplesByKey(Dataset[Item]):
    """Map-style view of all sources of a run; the index is an ``ExampleKey``.

    What a source cannot deliver is raised, naming source and example; in a data worker it is handed over instead,
    because torch would make a traceback of it.
    """

    def __init__(self, sources: Mapping[str, DataSource]) -> None:
        self.sources = dict(sources)

    def __getitem__(self, key: ExampleKey) -> Item:
        try:
            return key, self.sources[key.source][key.index]
        except RunInterrupted:  # a signal, which reached this process just here
            raise
        except SigmaError as error:
            place = f"datasources.{key.source}, example {key.index}"
            told = DataError(f"{place}: {error.message}", error.problems)
            if get_worker_info() is not None:
                return key, told
            raise told from error


class PlannedBatches(IndexSampler[list[ExampleKey]]):
    """The plan's batches from ``first_step`` on; each process takes its share of every batch, part by part.

    The plan knows no process: another number of them shares the same steps among themselves. Lightning's
    ``set_epoch`` has nothing to do here, since an epoch is no notion of the plan.
    """

    def __init__(
        self, plan: BatchPlan, first_step: int, rank: int = 0, processes: int = 1, accumulate: int = 1
    ) -> None:
        self.plan, self.first_step = plan, first_step
        self.rank, self.processes, self.accumulate = rank, processes, accumulate

    def __iter__(self) -> Iterator[list[ExampleKey]]:
        for step in range(self.first_step, self.plan.total_steps):
            share = self.plan.batch(step)[self.rank :: self.processes]
            for part in range(self.accumulate):
                yield share[part :: self.accumulate]

    def __len__(self) -> int:
        return (self.plan.total_steps - self.first_step) * self.accumulate


class SigmaDataModule(pl.LightningDataModule):
    """Serves a batch plan; knows nothing of what is done with the examples."""

    def __init__(
        self,
        sources: Mapping[str, DataSource],
        plan: BatchPlan,
        *,
        first_step: int,
        workers: int,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.examples, self.plan, self.first_step, self.workers = ExamplesByKey(sources), plan, first_step, workers
        self.accumulate = accumulate

    def train_dataloader(self) -> DataLoader[Item]:
        """Batches are lists of (key, example): pictures of several sizes do not stack."""
        trainer = self.trainer
        rank, processes = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        batches = PlannedBatches(self.plan, self.first_step, rank, processes, self.accumulate)
        return DataLoader(
            self.examples,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_as_list,
            worker_init_fn=_outlive_signals,
            persistent_workers=False,
            prefetch_factor=4 if self.workers else None,
        )

    def on_before_batch_transfer(self, batch: Sequence[Item], dataloader_idx: int) -> list[tuple[ExampleKey, Example]]:
        """Raises what a data worker could not deliver."""
        return _delivered(batch)

    def fixed(self, keys: Sequence[ExampleKey]) -> list[tuple[ExampleKey, Example]]:
        """Examples by key, for validation and pictures."""
        return _delivered([self.examples[key] for key in keys])


def _delivered(items: Sequence[Item]) -> list[tuple[ExampleKey, Example]]:
    made = []
    for key, example in items:
        if isinstance(example, DataError):
            raise example
        made.append((key, example))
    return made


def facts_of(sources: Mapping[str, DataSource]) -> dict[str, str]:
    """Per source its length and a digest of all shapes, which the plan of a run depends on; nothing is decoded."""
    return {name: f"{len(source)} examples, {_digest(source)}" for name, source in sources.items()}


def _digest(source: DataSource) -> str:
    shapes = np.column_stack([np.asarray(source.subject_counts), np.asarray(source.sizes)]).astype("<i8")
    return hashlib.sha256(shapes.tobytes()).hexdigest()[:16]


def _outlive_signals(worker: int) -> None:
    """Leaves signals to the process that trains: Ctrl-C and schedulers send them to all processes of a job at once.

    A worker that died of one would take the run with it before it saved. A second SIGTERM ends a worker that is stuck;
    the loader sends it at its end.
    """
    for number in LISTENED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def _as_list(items: list[Item]) -> list[Item]:
    return items
