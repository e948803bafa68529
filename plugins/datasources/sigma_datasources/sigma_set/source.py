"""The data source ``sigma_set``: samples of finished shards; a damaged one is set aside and replaced by the next."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.replacement import SoundExamples
from sigma_datasources.sigma_set.config import SigmaSetConfig
from sigma_framework import Example, ShardSet


class SigmaSetSource:
    """Map-style access to a set of shards; satisfies ``DataSource``."""

    def __init__(self, config: SigmaSetConfig) -> None:
        self.config = config
        self._shards = ShardSet(config.path, config.cache)
        self._sound = SoundExamples(
            config.path,
            self._shards.subject_counts,
            self._shards.sizes,
            max_bad=config.max_bad,
            quarantine=config.quarantine,
            name_of=self._shards.key,
        )

    def __reduce__(self) -> tuple[type[SigmaSetSource], tuple[SigmaSetConfig]]:
        return SigmaSetSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) number of subjects of each example."""
        return self._sound.counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) height and width of each example, pixels."""
        return self._sound.sizes

    @property
    def bad(self) -> dict[int, str]:
        """What is wrong with each sample that this process found damaged."""
        return self._sound.bad

    def __len__(self) -> int:
        return len(self._sound.counts)

    def __getitem__(self, index: int) -> Example:
        """One example; a negative index counts from the end.

        Raises:
            IndexError: there is no such example.
            DataError: too many samples are damaged; names them.
        """
        return self._sound.read(operator.index(index), lambda at: self._shards.sample(at).example())

    def record(self, index: int) -> dict[str, Any]:
        """The sample as a build takes it: with the depth of the whole picture, its provenance and its licence."""
        return self._sound.read(operator.index(index), lambda at: self._shards.sample(at).record())
