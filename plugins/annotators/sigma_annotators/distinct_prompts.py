"""One record per scene: of prompts that say the same in a whole set, the first stays (section A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sigma_annotators.config import DistinctPromptsConfig
from sigma_annotators.learned.answers import gist
from sigma_annotators.records import require


@dataclass(frozen=True)
class DistinctPrompts:
    """Drops records whose texts another record has, whatever their capitals, articles and order of subjects.

    A build compares all records of the set by ``gist`` and hands over the first of each; elsewhere those of a batch are
    compared.
    """

    config: DistinctPromptsConfig

    def gist(self, record: Mapping[str, Any]) -> str:
        """Two records with the same one are one scene.

        Raises:
            DataError: the record lacks one of the texts.
        """
        require(record, 0, "distinct_prompts", self.config.compare)
        return gist(*(record[key] for key in self.config.compare))

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Draws nothing from ``rng``."""
        seen: set[str] = set()
        for record in records:
            said = self.gist(record)
            if said not in seen:
                seen.add(said)
                yield record
