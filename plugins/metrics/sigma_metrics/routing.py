"""Who stands in which region: accuracy, confusion, missing subjects, similarity to the own identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sigma_framework import Result, Scene
from sigma_metrics.config import (
    ConfusionConfig,
    IdentitySimilarityConfig,
    MissingSubjectsConfig,
    RoutingAccuracyConfig,
)
from sigma_metrics.matching import best_matching
from sigma_metrics.observation import Observation, shared_observer


class RoutingAccuracy:
    """Share of the subjects whose own identity is nearer to what their region shows than any other of the scene."""

    def __init__(self, config: RoutingAccuracyConfig) -> None:
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image; a region without its subject is a mistake."""
        for number in range(len(result.images)):
            self._values.append(accuracy(shared_observer().observe(result, number)))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """0 to 1; chance is 1 / N."""
        return {"routing_accuracy": tuple(self._values)}


class Confusion:
    """Share of the subjects that stand in another's region when regions and identities are matched one to one."""

    def __init__(self, config: ConfusionConfig) -> None:
        self._values: list[float] = []
        self._counts: dict[int, np.ndarray] = {}

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image, and one count per region in the matrix of its number of subjects."""
        for number in range(len(result.images)):
            seen = shared_observer().observe(result, number)
            matched = best_matching(seen.similarity)
            count = len(matched)
            wrong = (matched != np.arange(count)) | ~seen.present
            self._values.append(float(wrong.mean()))
            table = self._counts.setdefault(count, np.zeros((count, count + 1), np.int64))
            for region, identity in enumerate(matched):
                table[region, identity if seen.present[region] else count] += 1

    def compute(self) -> Mapping[str, Sequence[float]]:
        """0 to 1, lower is better; chance is 1 - 1 / N."""
        return {"confusion": tuple(self._values)}

    def markdown(self) -> str:
        """Per number of subjects, how often region i showed identity j; the last column counts empty regions."""
        parts = []
        for count, table in sorted(self._counts.items()):
            names = [f"identity {k + 1}" for k in range(count)]
            head = f"| {count} subjects | {' | '.join(names)} | nothing |\n|---|{'---|' * (count + 1)}\n"
            rows = [f"| region {k + 1} | {' | '.join(map(str, row))} |\n" for k, row in enumerate(table.tolist())]
            parts.append(head + "".join(rows))
        return "\n".join(parts)


class MissingSubjects:
    """Share of the regions in which no subject was found."""

    def __init__(self, config: MissingSubjectsConfig) -> None:
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        for number in range(len(result.images)):
            self._values.append(float(1 - shared_observer().observe(result, number).present.mean()))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """0 to 1, lower is better."""
        return {"missing_subjects": tuple(self._values)}


class IdentitySimilarity:
    """Mean cosine between what a region shows and its own identity image, in the judge's eyes."""

    def __init__(self, config: IdentitySimilarityConfig) -> None:
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image; an empty region counts 0."""
        for number in range(len(result.images)):
            self._values.append(float(np.diag(shared_observer().observe(result, number).similarity).mean()))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """-1 to 1, higher is better."""
        return {"identity_similarity": tuple(self._values)}


def accuracy(seen: Observation) -> float:
    """See ``RoutingAccuracy``."""
    own = seen.similarity.argmax(axis=1) == np.arange(len(seen.similarity))
    return float((own & seen.present).mean())
