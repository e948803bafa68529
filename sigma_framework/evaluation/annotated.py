"""Examples that annotators made for an evaluation, out of the shards of their build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sigma_framework.shards import ShardSet
from sigma_framework.types import Example


class AnnotatedSource:
    """A finished set of shards as a data source; satisfies ``DataSource``."""

    def __init__(self, folder: Path) -> None:
        self._shards = ShardSet(folder)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) number of subjects of each example."""
        return self._shards.subject_counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) height and width of each example, pixels."""
        return self._shards.sizes

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> Example:
        """One example.

        Raises:
            IndexError: there is no such example.
            DataError: it is damaged.
        """
        return self._shards.sample(index).example()
