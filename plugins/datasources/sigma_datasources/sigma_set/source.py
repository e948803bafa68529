"""The data source ``sigma_set``: samples of finished shards; a damaged one is set aside and replaced by the next."""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.sigma_set.config import SigmaSetConfig
from sigma_framework import DataError, Example, ShardSet

log = logging.getLogger(__name__)

_NAMED = 10
"""Damaged samples that a message names."""


class SigmaSetSource:
    """Map-style access to a set of shards; satisfies ``DataSource``.

    A damaged sample is replaced by the next one of its number of subjects and its size, counting round, so that an
    example depends on its index and the files alone and batches keep their shape.
    """

    def __init__(self, config: SigmaSetConfig) -> None:
        self.config = config
        self._shards = ShardSet(config.path, config.cache)
        self._counts = _fixed(self._shards.subject_counts)
        self._sizes = _fixed(self._shards.sizes)
        self.bad: dict[int, str] = {}
        """What is wrong with each sample found damaged by this process."""

    def __reduce__(self) -> tuple[type[SigmaSetSource], tuple[SigmaSetConfig]]:
        return SigmaSetSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) number of subjects of each example."""
        return self._counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) height and width of each example, pixels."""
        return self._sizes

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, index: int) -> Example:
        """One example; a negative index counts from the end.

        Raises:
            IndexError: there is no such example.
            DataError: too many samples are damaged; names them.
        """
        return self._sound(index, lambda at: self._shards.sample(at).example())

    def record(self, index: int) -> dict[str, Any]:
        """The sample as a build takes it: with the depth of the whole picture, its provenance and its licence."""
        record: dict[str, Any] = self._sound(index, lambda at: self._shards.sample(at).record())
        return record

    def _sound(self, index: int, read: Any) -> Any:
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{self.config.path} has {len(self)} examples, asked for index {at}")
        at %= len(self)
        for candidate in self._like(at):
            if candidate in self.bad:
                continue
            try:
                return read(candidate)
            except DataError as error:
                self._set_aside(candidate, error)
        raise self._too_many(f"no sound sample like {self._shards.key(at)} is left")

    def _like(self, at: int) -> list[int]:
        """``at``, then the samples of its shape behind it, then those before it."""
        alike = (self._counts == self._counts[at]) & (self._sizes == self._sizes[at]).all(axis=1)
        found = np.flatnonzero(alike)
        start = int(np.searchsorted(found, at))
        return [*found[start:].tolist(), *found[:start].tolist()]

    def _set_aside(self, index: int, error: DataError) -> None:
        self.bad[index] = " ".join(error.render().split())
        log.warning("damaged sample %s is replaced by the next of its shape: %s", index, self.bad[index])
        if self.config.quarantine is not None:
            row = {"index": index, "sample": self._shards.key(index), "error": self.bad[index]}
            with Path(self.config.quarantine).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if len(self.bad) > self.config.max_bad * len(self):
            share, limit = 100 * len(self.bad) / len(self), 100 * self.config.max_bad
            raise self._too_many(f"{len(self.bad)} of {len(self)} samples damaged ({share:.2g} %), limit {limit:.2g} %")

    def _too_many(self, what: str) -> DataError:
        listed: Mapping[int, str] = dict(sorted(self.bad.items())[:_NAMED])
        rows = "".join(f"\n  {self._shards.key(index)}: {text}" for index, text in listed.items())
        more = f"\n  and {len(self.bad) - len(listed)} more" if len(self.bad) > len(listed) else ""
        return DataError(f"{self.config.path}: {what}; copy the shards again, or raise max_bad{rows}{more}")


def _fixed(values: NDArray[np.int64]) -> NDArray[np.int64]:
    values.flags.writeable = False
    return values
