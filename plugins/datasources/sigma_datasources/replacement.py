"""Damaged examples: set aside, told, replaced by the next of the same shape, and too many of them an error."""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sigma_framework import DataError

log = logging.getLogger(__name__)

_NAMED = 10
"""Damaged examples that a message names."""
Read = TypeVar("Read")


class Tolerance(Protocol):
    """The options of a source that say what to do about damage."""

    @property
    def max_bad(self) -> float:
        """Share of damaged examples above which reading stops."""
        ...

    @property
    def quarantine(self) -> str | None:
        """File that gets a line per damaged example."""
        ...


class SoundExamples:
    """Reads examples of one source and remembers which are damaged.

    A damaged example is replaced by the next one of its number of subjects and its size, counting round, so that what
    comes depends on the index and the files alone and batches keep their shape.

    Args:
        name: of the source, for messages.
        counts: (len,) subjects per example.
        sizes: (len, 2) height and width per example.
        max_bad: share of damaged examples above which reading stops.
        quarantine: file that gets one line of JSON per damaged example, or None.
        name_of: what a message calls an example.
    """

    def __init__(
        self,
        name: str,
        counts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        *,
        max_bad: float,
        quarantine: str | None,
        name_of: Callable[[int], str],
    ) -> None:
        self.name, self.max_bad, self.quarantine, self.name_of = name, max_bad, quarantine, name_of
        self.counts, self.sizes = _fixed(counts), _fixed(sizes)
        self.bad: dict[int, str] = {}
        """What is wrong with each example that this process found damaged."""

    @classmethod
    def alike(
        cls, name: str, count: int, *, subjects: int, side: int, tolerance: Tolerance, name_of: Callable[[int], str]
    ) -> SoundExamples:
        """Of a source whose examples all have so many subjects and are squares of one size.

        Args:
            name: of the source, for messages.
            count: examples.
            subjects: of each.
            side: pixels.
            tolerance: the source's options.
            name_of: what a message calls an example.
        """
        counts, sizes = np.full(count, subjects, np.int64), np.full((count, 2), side, np.int64)
        return cls(name, counts, sizes, max_bad=tolerance.max_bad, quarantine=tolerance.quarantine, name_of=name_of)

    def refuse(self, index: int, reason: str) -> NoReturn:
        """For a source whose examples lack what training needs.

        Raises:
            IndexError: there is no such example.
            DataError: always else.
        """
        if not -len(self.counts) <= operator.index(index) < len(self.counts):
            raise IndexError(f"{self.name} has {len(self.counts)} examples, asked for index {index}")
        raise DataError(f"{self.name}: {reason}")

    def read(self, index: int, read: Callable[[int], Read]) -> Read:
        """``read(index)``, or that of the replacement; a negative index counts from the end.

        Raises:
            IndexError: there is no such example.
            DataError: too many examples are damaged; names them.
        """
        count = len(self.counts)
        if not -count <= index < count:
            raise IndexError(f"{self.name} has {count} examples, asked for index {index}")
        for candidate in self._like(index % count):
            if candidate in self.bad:
                continue
            try:
                return read(candidate)
            except DataError as error:
                self._set_aside(candidate, error)
        raise self._too_many(f"no sound example like {self.name_of(index % count)} is left")

    def _like(self, at: int) -> Iterator[int]:
        """``at``, then the examples of its shape behind it, then those before it."""
        yield at
        alike = (self.counts == self.counts[at]) & (self.sizes == self.sizes[at]).all(axis=1)
        found = np.flatnonzero(alike)
        start = int(np.searchsorted(found, at))
        yield from [*found[start + 1 :].tolist(), *found[:start].tolist()]

    def _set_aside(self, index: int, error: DataError) -> None:
        self.bad[index] = " ".join(error.render().split())
        log.warning("%s: damaged, replaced by the next of its shape: %s", self.name_of(index), self.bad[index])
        if self.quarantine is not None:
            row = {"index": index, "example": self.name_of(index), "error": self.bad[index]}
            try:
                with Path(self.quarantine).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            except OSError as failure:
                raise DataError(
                    f"{self.name}: quarantine: {self.quarantine} cannot be written ({failure.strerror or failure}); "
                    "name a file in a folder that is there"
                ) from error
        count = len(self.counts)
        if len(self.bad) > self.max_bad * count:
            share, limit = 100 * len(self.bad) / count, 100 * self.max_bad
            raise self._too_many(f"{len(self.bad)} of {count} examples damaged ({share:.2g} %), limit {limit:.2g} %")

    def _too_many(self, what: str) -> DataError:
        listed: Mapping[int, str] = dict(sorted(self.bad.items())[:_NAMED])
        rows = "".join(f"\n  {self.name_of(index)}: {text}" for index, text in listed.items())
        more = f"\n  and {len(self.bad) - len(listed)} more" if len(self.bad) > len(listed) else ""
        return DataError(f"{self.name}: {what}; copy the files again, or raise max_bad{rows}{more}")


def check_max_bad(max_bad: float) -> None:
    """Raises ``ValueError`` unless ``max_bad`` is a share."""
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max_bad: found {max_bad}, expected a number from 0 to 1")


def _fixed(values: NDArray[np.int64]) -> NDArray[np.int64]:
    values.flags.writeable = False
    return values
