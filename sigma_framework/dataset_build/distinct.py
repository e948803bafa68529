"""Stages that compare records of the whole set: of all that say the same, the first one goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sigma_framework.dataset_build.records import Record
from sigma_framework.errors import RunError
from sigma_framework.protocols import Annotator

DOUBLE = "says what an earlier record says"
"""Why a record is rejected."""


class Comparing(Protocol):
    """An annotator that also has ``gist``: records with one gist are one record said twice."""

    def gist(self, record: Mapping[str, Any]) -> str:
        """What must not come twice in a set."""
        ...


class EarlierUnits(Protocol):
    """The work, as far as a comparing stage needs it."""

    @property
    def units(self) -> int:
        """How many."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of the source and the stages."""
        ...

    def done(self, place: int) -> set[int]:
        """Units that a stage is finished with."""
        ...

    def records(self, place: int, unit: int) -> tuple[list[Record], Any]:
        """(records, facts) after a stage."""
        ...


class UnitsMissing(RunError):
    """A stage that compares all records cannot begin: other jobs still owe units of the stage before it."""


class Distinct:
    """A comparing annotator within a build: it sees the records that are the first of the set with their gist.

    Which one is the first follows from the finished stage before it alone, whatever was killed and whoever works.

    Args:
        annotator: the stage's, with a ``gist``.
        work: of the build.
        place: of the stage.

    Raises:
        UnitsMissing: the stage before it is not finished.
    """

    def __init__(self, annotator: Annotator, work: EarlierUnits, place: int) -> None:
        self.annotator = annotator
        self._gist: Callable[[Mapping[str, Any]], str] = annotator.gist  # type: ignore[attr-defined]  # it compares
        if missing := work.units - len(work.done(place - 1)):
            raise UnitsMissing(
                f"stage {work.names[place]} compares all records, and {missing} units of {work.names[place - 1]} are "
                "missing; run this job again when the others have made them"
            )
        self._firsts: dict[bytes, tuple[int, int]] = {}
        for unit in range(work.units):
            for row, record in enumerate(work.records(place - 1, unit)[0]):
                self._firsts.setdefault(self._digest(record), (unit, row))

    def sort_out(
        self, unit: int, records: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """(what the stage is to see of one unit, the others with the reason)."""
        kept: list[Mapping[str, Any]] = []
        doubles: list[Mapping[str, Any]] = []
        for row, record in enumerate(records):
            if self._firsts[self._digest(record)] == (unit, row):
                kept.append(record)
            else:
                doubles.append({"key": record.get("key", ""), "rejected": DOUBLE})
        return kept, doubles

    def _digest(self, record: Mapping[str, Any]) -> bytes:
        return hashlib.blake2b(self._gist(record).encode(errors="replace"), digest_size=16).digest()
