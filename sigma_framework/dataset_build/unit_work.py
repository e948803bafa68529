"""One stage applied to one unit of records: what a worker does, in whatever engine it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sigma_framework.dataset_build.distinct import Distinct
from sigma_framework.dataset_build.records import Record, read_unit, record_of, write_unit
from sigma_framework.errors import RunError
from sigma_framework.protocols import Annotator, DataSource

_PER_FOLDER = 1000
_UNIT = re.compile(r"(\d{8})\.unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a build."""

    name: str
    """The recipe's name."""
    make: Callable[[], Annotator]
    """Builds the annotator where it is needed; can be pickled."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Type, options and version: what the manifest records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWork:
    """Everything a worker needs to know; can be pickled.

    A unit is ``batch`` records of the source that go through a stage together: the least that is done or not done.
    """

    folder: Path
    """``stages/`` of the run folder."""
    stages: tuple[Stage, ...]
    """After the source."""
    source: DataSource | None
    """Where records start; None starts them empty."""
    source_facts: Mapping[str, Any] = field(default_factory=dict)
    """Its type, options and version; ``type`` goes into the provenance of records that tell no source."""
    count: int
    """Records."""
    batch: int
    """Records in a unit."""
    seed: int
    """Of the stages' randomness."""

    @property
    def units(self) -> int:
        """How many."""
        return -(-self.count // self.batch)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the source and the stages, in order."""
        return ("source", *(stage.name for stage in self.stages))

    def stage_folder(self, place: int) -> Path:
        """Where the units of a stage lie."""
        return self.folder / f"{place:02d}-{self.names[place]}"

    def path(self, place: int, unit: int) -> Path:
        """The file of a unit, whether it exists or not."""
        return self.stage_folder(place) / f"{unit // _PER_FOLDER:05d}" / f"{unit:08d}.unit"

    def done(self, place: int) -> set[int]:
        """Units that a stage is finished with."""
        found = self.stage_folder(place).glob("*/*.unit")
        return {int(match[1]) for path in found if (match := _UNIT.fullmatch(path.name))}

    def records(self, place: int, unit: int) -> tuple[list[Record], Any]:
        """(records, facts) after a stage."""
        before: list[Record] = []
        facts: Any = {}
        for step in range(place + 1):
            before, facts = read_unit(self.path(step, unit), before)
        return before, facts

    def run(self, place: int, unit: int, annotator: Annotator | Distinct | None) -> dict[str, Any]:
        """Does one unit of one stage and stores it; returns what there is to tell of it.

        Args:
            place: 0 is the source, then the stages.
            unit: its number.
            annotator: of the stage; None for the source.
        """
        if annotator is None:
            before: list[Record] = []
            made: Iterable[Mapping[str, Any]] = self._start(unit)
        else:
            before, _ = self.records(place - 1, unit)
            rng = np.random.default_rng((self.seed, place, unit))
            made = _applied(annotator, unit, before, rng) if before else []
        kept, facts = _sorted_out(before, list(made), place == 0)
        write_unit(self.path(place, unit), kept, before, facts)
        return facts

    def _start(self, unit: int) -> list[Record]:
        indices = range(unit * self.batch, min((unit + 1) * self.batch, self.count))
        if self.source is None:
            return [{"key": f"{index:08d}"} for index in indices]
        give: Callable[[int], Record] = getattr(self.source, "record", None) or (
            lambda index: record_of(self.source[index])
        )
        return [self._with_source(give(index)) for index in indices]

    def _with_source(self, record: Record) -> Record:
        """Names the source and its licence, where the record does not."""
        if not record.get("licence") and self.source_facts.get("licence"):
            record = {**record, "licence": self.source_facts["licence"]}
        provenance = dict(record.get("provenance", {}))
        if "source" in provenance or "type" not in self.source_facts:
            return record
        return {**record, "provenance": {"source": self.source_facts["type"], **provenance}}


def _applied(
    annotator: Annotator | Distinct, unit: int, before: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> Iterable[Mapping[str, Any]]:
    doubles: list[Mapping[str, Any]] = []
    if isinstance(annotator, Distinct):
        before, doubles = annotator.sort_out(unit, before)
        annotator = annotator.annotator
    work: Callable[..., Iterable[Mapping[str, Any]]] = getattr(annotator, "annotate_or_reject", annotator.annotate)
    return [*doubles, *work(before, rng)]


def _sorted_out(
    before: Sequence[Record], made: list[Mapping[str, Any]], first: bool
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """(kept records, facts): rejected records leave only their reason, dropped ones the fact that they are gone."""
    kept = [record for record in made if "rejected" not in record]
    reasons: dict[str, int] = {}
    for record in made:
        if "rejected" in record:
            reasons[str(record["rejected"])] = reasons.get(str(record["rejected"]), 0) + 1
    dropped = len(before) - len(made)
    if dropped > 0 and not first:
        reasons["dropped"] = dropped
    counts: dict[str, int] = {}
    for record in made:
        for name, number in record.get("counts", {}).items():
            counts[name] = counts.get(name, 0) + int(number)
    kept = [{key: value for key, value in record.items() if key != "counts"} for record in kept]
    if unnamed := [record for record in kept if not str(record.get("key", ""))]:
        raise RunError(f"{len(unnamed)} records of a stage have no key; every record needs one")
    return kept, {"read": len(made) if first else len(before), "kept": len(kept), "rejected": reasons, "counts": counts}
