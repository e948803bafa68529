"""Where the units of a stage are worked on: in this process, in worker processes, by one of several jobs, or by Ray."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from sigma_framework.dataset_build.distinct import Distinct
from sigma_framework.dataset_build.unit_work import UnitWork
from sigma_framework.errors import RunError
from sigma_framework.protocols import Annotator

Outcome = tuple[int, Mapping[str, Any]]
"""A unit and what there is to tell of it."""
Engine = Callable[[UnitWork, int, Sequence[int]], Iterator[Outcome]]
"""(work, stage, units) -> outcomes as they come."""

_AHEAD = 4
"""Units handed to the pool per worker; few, so that a build that is stopped stops soon."""
_PARENT_SECONDS = 0.5


def in_this_process(work: UnitWork, place: int, units: Sequence[int]) -> Iterator[Outcome]:
    """One unit after another."""
    annotator = _annotator(work, place)
    for unit in units:
        yield unit, work.run(place, unit, annotator)


def in_processes(workers: int, gpus: float = 0) -> Engine:
    """Worker processes on this machine, each with its own annotator and, where ``gpus`` is not 0, its own GPUs."""

    def run(work: UnitWork, place: int, units: Sequence[int]) -> Iterator[Outcome]:
        context = multiprocessing.get_context("spawn")
        count = min(workers, len(units))
        devices = context.SimpleQueue()
        for visible in gpus_of_workers(count, gpus, os.environ) if gpus else [None] * count:
            devices.put(visible)
        with ProcessPoolExecutor(count, context, _prepare, (work, place, os.getpid(), devices)) as pool:
            try:
                yield from _pooled(pool, units, count)
            except BrokenProcessPool as error:
                raise RunError(
                    f"stage {work.names[place]}: a worker process died (out of memory?); run again to go on"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    return run


def gpus_of_workers(workers: int, gpus: float, environment: Mapping[str, str]) -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` is for each worker.

    Args:
        workers: how many.
        gpus: of each; 0.5 puts two workers on one.
        environment: where ``CUDA_VISIBLE_DEVICES`` says which there are; without it, all of this machine.

    Raises:
        RunError: there are not enough.
    """
    told = environment.get("CUDA_VISIBLE_DEVICES")
    visible = [name for name in told.split(",") if name] if told is not None else _all_gpus()
    spans = [(math.floor(k * gpus), math.ceil((k + 1) * gpus)) for k in range(workers)]
    if spans and spans[-1][1] > len(visible):
        raise RunError(
            f"build.worker_gpus: {workers} workers with {gpus:g} GPUs each need {spans[-1][1]}, found {len(visible)}; "
            "lower build.workers or build.worker_gpus"
        )
    return [",".join(visible[first:last]) for first, last in spans]


def _all_gpus() -> list[str]:
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _pooled(pool: ProcessPoolExecutor, units: Sequence[int], workers: int) -> Iterator[Outcome]:
    waiting = iter(units)
    running: set[Future[Outcome]] = set()
    while True:
        while len(running) < workers * _AHEAD and (unit := next(waiting, None)) is not None:
            running.add(pool.submit(_work_on, unit))
        if not running:
            return
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


def with_ray(workers: int, gpus: float = 0) -> Engine:
    """Ray Data: the same stage code in actors on a cluster that shares the run folder; each actor reserves ``gpus``."""

    def run(work: UnitWork, place: int, units: Sequence[int]) -> Iterator[Outcome]:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise RunError("build.engine: ray is not installed; pip install 'sigma-framework[ray]'") from error
        if not ray.is_initialized():
            _join_or_start(ray, workers)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=max(1, len(units) // 8))
        outcomes = rows.map(
            RayStage,
            fn_constructor_args=(work, place),
            compute=ray.data.ActorPoolStrategy(size=max(1, workers)),
            num_gpus=gpus or None,
        )
        for row in outcomes.iter_rows():
            yield int(row["unit"]), json.loads(row["facts"])

    return run


def _join_or_start(ray: Any, workers: int) -> None:
    """A cluster that is there (``ray start``, ``RAY_ADDRESS``) has its own resources and refuses to be told any."""
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    try:
        ray.init(num_cpus=workers or None, **quiet)
    except ValueError:
        ray.init(**quiet)


class RayStage:
    """A stage as Ray Data wants it: built once per actor, called per row."""

    def __init__(self, work: UnitWork, place: int) -> None:
        self.work, self.place, self.annotator = work, place, _annotator(work, place)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Works on one unit."""
        unit = int(row["unit"])
        return {"unit": unit, "facts": json.dumps(self.work.run(self.place, unit, self.annotator))}


@dataclass(frozen=True, slots=True)
class Share:
    """Which units are this job's, when several jobs work on one build."""

    rank: int = 0
    """0 to ``jobs`` - 1."""
    jobs: int = 1
    """How many there are."""

    def of(self, units: int) -> range:
        """Its units."""
        return range(self.rank, units, self.jobs)


_ARRAYS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("PBS_ARRAY_INDEX", "PBS_ARRAY_COUNT", ""),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
    ("RANK", "WORLD_SIZE", ""),
)
"""(number, count, first number) of a job among its like, as schedulers say it."""


def share_of_array(environment: Mapping[str, str]) -> Share:
    """This job's share, from the scheduler's variables.

    Raises:
        RunError: none is set, or they contradict one another.
    """
    for number, count, first in _ARRAYS:
        if number in environment and count in environment:
            try:
                rank = int(environment[number]) - int(environment.get(first, "0"))
                jobs = int(environment[count])
            except ValueError as error:
                raise RunError(f"build.engine array: {number}, {count}: expected whole numbers") from error
            if not 0 <= rank < jobs:
                raise RunError(f"build.engine array: found {number} {rank} of {count} {jobs}, expected less than it")
            return Share(rank, jobs)
    names = ", ".join(f"{number} and {count}" for number, count, _ in _ARRAYS)
    raise RunError(f"build.engine array: no job array here; expected {names} in the environment")


def _annotator(work: UnitWork, place: int) -> Annotator | Distinct | None:
    if place == 0:
        return None
    annotator = work.stages[place - 1].make()
    return Distinct(annotator, work, place) if hasattr(annotator, "gist") else annotator


_held: dict[str, Any] = {}
"""Of a worker process: its work, built once."""


def _prepare(work: UnitWork, place: int, parent: int, devices: Any) -> None:
    """``parent`` is told, not asked for: a parent that died while this process started would never be missed."""
    if (visible := devices.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    _held.update(work=work, place=place)


def _work_on(unit: int) -> Outcome:
    if "annotator" not in _held:  # not earlier: what goes wrong while a process starts reaches nobody
        _held["annotator"] = _annotator(_held["work"], _held["place"])
    facts: Mapping[str, Any] = _held["work"].run(_held["place"], unit, _held["annotator"])
    return unit, facts


def _end_with_parent(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)
