"""A build from beginning to end: stage after stage over all units, then the shards, then the report."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sigma_framework.dataset_build.distinct import UnitsMissing
from sigma_framework.dataset_build.engines import (
    Engine,
    Share,
    in_processes,
    in_this_process,
    share_of_array,
    with_ray,
)
from sigma_framework.dataset_build.packing import in_turn, pack
from sigma_framework.dataset_build.records import Record
from sigma_framework.dataset_build.report import StageCount, write_report
from sigma_framework.dataset_build.unit_work import Stage, UnitWork
from sigma_framework.errors import DataError, RunError
from sigma_framework.progress import Progress
from sigma_framework.protocols import DataSource
from sigma_framework.shards import Encoding
from sigma_framework.shards.writer import replace_file

__all__ = ["Build", "Stage", "run_build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What is built, from a recipe."""

    source: DataSource | None
    """Where records start; None starts them with a key alone, for a first stage that makes prompts."""
    source_facts: Mapping[str, Any] = field(default_factory=dict)
    """Its type, options and version: what the manifest records."""
    stages: Sequence[Stage]
    """In order."""
    count: int
    """Records to start with; stages may leave fewer."""
    seed: int
    """Of the stages' randomness."""
    batch: int = 1
    """Records that go through a stage together."""
    workers: int = 0
    """Worker processes; 0 works in this one."""
    worker_gpus: float = 0.0
    """Of each worker; 0 hands out none, and all see all."""
    engine: Literal["local", "array", "ray"] = "local"
    """Where stages run."""
    per_shard: int = 256
    """Samples in a shard."""
    encoding: Encoding = field(default_factory=Encoding)
    """Of the pictures."""


def run_build(work: Build, folder: Path, progress: Progress) -> Mapping[str, int]:
    """Writes ``shards/`` and ``report.html``, going on where an earlier call stopped; returns counts.

    Raises:
        DataError: the source is shorter than asked for, or the stages left nothing.
        RunError: the folder holds units of other stages, or a worker died.
    """
    if work.source is not None and len(work.source) < work.count:
        raise DataError(f"build.count: found {len(work.source)} examples in the source, expected {work.count} or more")
    units = UnitWork(
        folder=folder / "stages",
        stages=tuple(work.stages),
        source=work.source,
        source_facts=work.source_facts,
        count=work.count,
        batch=work.batch,
        seed=work.seed,
    )
    _require_same_stages(units)
    share = share_of_array(os.environ) if work.engine == "array" else Share()
    counts = _run_stages(units, share, _engine(work), progress)
    if missing := units.units - len(units.done(len(units.stages))):
        return {"read": counts[0].read, "units_missing": missing}
    with in_turn(folder):
        progress.begin("shards", work.count)
        entries = pack(_finished(units), folder, work.encoding, work.per_shard, _facts(units), progress)
        progress.finish()
        totals = counts if share.jobs == 1 else [_recount(units, place) for place in range(len(units.names))]
        write_report(units, totals, folder / "report.html")
    kept = sum(entry.samples for entry in entries)
    if kept == 0:
        raise DataError(f"the stages {', '.join(units.names[1:]) or 'of nobody'} left none of {work.count} records")
    return {"read": work.count, "kept": kept, "shards": len(entries)}


def _engine(work: Build) -> Engine:
    if work.engine == "ray":
        return with_ray(work.workers, work.worker_gpus)
    return in_processes(work.workers, work.worker_gpus) if work.workers > 1 else in_this_process


def _run_stages(units: UnitWork, share: Share, engine: Engine, progress: Progress) -> list[StageCount]:
    """All stages, or those before the first that needs what other jobs still owe."""
    job, counts = f"job {share.rank + 1} of {share.jobs}", list[StageCount]()
    try:
        for place in range(len(units.names)):
            counts.append(_run_stage(units, place, share, engine, progress))
    except UnitsMissing as error:
        progress.finish()
        progress.note(f"{job} waits: {error.message}")
    else:
        if missing := units.units - len(units.done(len(units.stages))):
            progress.note(f"{job} is done; {missing} units of other jobs are missing")
    return counts


def _run_stage(units: UnitWork, place: int, share: Share, engine: Engine, progress: Progress) -> StageCount:
    """All units of one stage that this job owes; what was done before is counted, not done again."""
    name, own = units.names[place], share.of(units.units)
    done = units.done(place)
    count = StageCount(name=name)
    for unit in own:
        if unit in done:
            count.add(units.records(place, unit)[1])
    owed = [unit for unit in own if unit not in done]
    progress.begin(name, len(own), len(own) - len(owed))
    started = time.monotonic()
    for number, (_, facts) in enumerate(engine(units, place, owed) if owed else (), 1):
        count.add(facts)
        rate = number * units.batch / max(time.monotonic() - started, 1e-6)
        progress.advance(1, f"{rate:.1f} records/s, {sum(count.rejected.values())} rejected")
        count.per_second = rate
    progress.finish()
    if owed and place:
        progress.note(count.line())
    return count


def _recount(units: UnitWork, place: int) -> StageCount:
    count = StageCount(name=units.names[place])
    for unit in range(units.units):
        count.add(units.records(place, unit)[1])
    return count


def _finished(units: UnitWork) -> Iterator[Record]:
    for unit in range(units.units):
        yield from units.records(len(units.stages), unit)[0]


def _facts(units: UnitWork) -> dict[str, Any]:
    """What the manifest says of how the set was made; the same on every machine and at any time."""
    source = {"source": _without_places(units.source_facts)} if units.source_facts else {}
    stages = [_described(stage) for stage in units.stages]
    return {"read": units.count, "seed": units.seed, **source, "stages": stages}


def _described(stage: Stage) -> dict[str, Any]:
    return {"name": stage.name, **_without_places(stage.facts)}


def _without_places(value: Any) -> Any:
    """Plain data in which an absolute path is only its last name."""
    if isinstance(value, Mapping):
        return {str(key): _without_places(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_places(part) for part in value]
    if isinstance(value, Path) or (isinstance(value, str) and os.path.isabs(value)):
        return Path(value).name
    return value


def _require_same_stages(units: UnitWork) -> None:
    """Each stage's ``stage.json`` says what made its units; a unit made otherwise must not be taken for done."""
    made = hashlib.sha256(f"{units.count % units.batch if units.batch > 1 else 0} {units.batch} {units.seed}".encode())
    for place, name in enumerate(units.names):
        # Not the source's options: how much damage it may have, and where it tells of it, may change in between.
        facts = {} if place == 0 else _described(units.stages[place - 1])
        made.update(json.dumps([name, facts], sort_keys=True).encode())
        path = units.stage_folder(place) / "stage.json"
        text = json.dumps({"name": name, **facts, "made_by": made.hexdigest()}, indent=1) + "\n"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode())
        elif path.read_text(encoding="utf-8") != text:
            raise RunError(
                f"{path.parent}: made with other options or versions of {name} or of a stage before it; start anew "
                "with --fresh, or choose another run.dir"
            )
