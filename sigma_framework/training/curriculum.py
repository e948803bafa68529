"""Which examples each step of a run sees: stages by step, filtered by subject count, in batches of equal shape.

The transformer takes no padding mask, so a batch holds examples of one (subjects, height, width). The plan is a pure
function of the seed and the sources: step k of a run is the same whatever happened before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sigma_framework.errors import DataError
from sigma_framework.protocols import DataSource
from sigma_framework.training.position import ORDER, VALIDATION, numpy_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of the curriculum, as the recipe says it."""

    name: str
    """The recipe's name of the stage."""
    steps: int
    """Optimizer steps."""
    min_subjects: int
    """Fewest subjects per example."""
    max_subjects: int | None
    """Most subjects per example; None is no limit."""
    sources: tuple[str, ...]
    """Names of the data sources that take part."""


@dataclass(frozen=True, slots=True)
class ExampleKey:
    """Which example stands at which position of a run."""

    stage: int
    """Index of the stage."""
    position: int
    """Running number of the example within the stage."""
    source: str
    """Name of the data source."""
    index: int
    """Index in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBudget:
    """Steps of about equal cost: a step of few subjects holds more examples than one of many."""

    tokens: int
    """Image tokens per step over all processes."""
    identity_size: int
    """Side of an identity block, pixels."""
    pixels_per_token: int
    """Side of what one token shows, pixels."""

    def example(self, subjects: int, height: int, width: int) -> int:
        """Tokens of one example: target, ``I^C`` and ``I^S``; text is the same for all."""
        return (2 * height * width + subjects * self.identity_size**2) // self.pixels_per_token**2

    def batch(self, smallest: int, subjects: int, height: int, width: int) -> int:
        """Examples of a step: a multiple of ``smallest``, at least it, so that processes share it evenly."""
        return max(1, self.tokens // (smallest * self.example(subjects, height, width))) * smallest


@dataclass(frozen=True, slots=True)
class _Bucket:
    source: str
    indices: NDArray[np.int64]
    batch: int
    """Examples of a step from this bucket."""


@dataclass(frozen=True)
class BatchPlan:
    """The whole run as batches of example keys.

    Attributes:
        stages: the curriculum in order.
        batch_size: examples per step over all processes; with a token budget, what they are a multiple of.
        seed: the run's seed.

    No process has a part in it: processes share each step, so that another number of them goes on with the same plan.
    """

    stages: tuple[StagePlan, ...]
    batch_size: int
    seed: int
    buckets: tuple[tuple[_Bucket, ...], ...]
    choices: tuple[NDArray[np.int64], ...]
    """Per stage: the bucket of each step."""
    turns: tuple[NDArray[np.int64], ...]
    """Per stage: how often that bucket was chosen before."""
    validation: tuple[tuple[ExampleKey, ...], ...]
    """Per stage: the fixed validation examples, never trained on."""
    _orders: dict[tuple[int, int, int], NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def weight_total(self, step: int) -> float:
        """What a step's sum of losses is divided by, so that every example of a stage counts the same.

        It is the number of the step's examples where all steps have as many, else their mean over the stage.
        """
        stage, _ = self.stage_of(step)
        counts = np.array([bucket.batch for bucket in self.buckets[stage]])[self.choices[stage]]
        return float(counts.mean())

    def stage_of(self, step: int) -> tuple[int, int]:
        """(stage index, step within the stage) of a step of the run; the end of the run belongs to the last stage."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        return len(self.stages) - 1, self.stages[-1].steps + step

    def batch(self, step: int) -> list[ExampleKey]:
        """The keys of one step, all of one (subjects, height, width)."""
        stage, inner = self.stage_of(step)
        choice = int(self.choices[stage][inner])
        bucket, turn = self.buckets[stage][choice], int(self.turns[stage][inner])
        first, stride = turn * bucket.batch, max(one.batch for one in self.buckets[stage])
        keys = []
        for offset in range(bucket.batch):
            round_, place = divmod(first + offset, len(bucket.indices))
            index = self._order(stage, choice, round_)[place]
            keys.append(ExampleKey(stage, inner * stride + offset, bucket.source, int(index)))
        return keys

    def _order(self, stage: int, choice: int, round_: int) -> NDArray[np.int64]:
        """The bucket's indices in the order of its round_-th pass; a bucket is used up before it starts again."""
        key = (stage, choice, round_)
        if key not in self._orders:
            rng = numpy_generator(self.seed, ORDER, stage, (choice << 20) + round_)
            self._orders[key] = rng.permutation(self.buckets[stage][choice].indices)
        return self._orders[key]


def plan_batches(
    stages: Sequence[StagePlan],
    sources: Mapping[str, DataSource],
    weights: Mapping[str, float],
    batch_size: int,
    seed: int,
    validation_scenes: int,
    budget: TokenBudget | None = None,
) -> BatchPlan:
    """Draws the plan of a run.

    Args:
        stages: the curriculum.
        sources: every source a stage names.
        weights: mixture weight per source; within a source, shapes are drawn by how many examples they have.
        batch_size: examples per step.
        seed: the run's seed.
        validation_scenes: examples per stage kept apart for the fixed validation loss.
        budget: lets the examples of a step depend on their shape; None takes ``batch_size`` of every shape.

    Raises:
        DataError: a stage's filter leaves nothing; names the stage, its limits and what the sources have.
    """
    buckets, choices, turns, validation = [], [], [], []
    for number, stage in enumerate(stages):
        held, found = _split(number, stage, sources, seed, validation_scenes, batch_size, budget)
        likely = np.array([weights[b.source] * len(b.indices) / _source_total(found, b.source) for b in found])
        if budget is not None:  # a larger step is drawn less often, so that the mixture of examples stays
            likely /= [bucket.batch for bucket in found]
        rng = numpy_generator(seed, ORDER, number, 0)
        drawn = rng.choice(len(found), size=stage.steps, p=likely / likely.sum())
        buckets.append(tuple(found))
        choices.append(drawn)
        turns.append(_turns(drawn, len(found)))
        validation.append(held)
    return BatchPlan(tuple(stages), batch_size, seed, tuple(buckets), tuple(choices), tuple(turns), tuple(validation))


def _split(
    number: int,
    stage: StagePlan,
    sources: Mapping[str, DataSource],
    seed: int,
    validation_scenes: int,
    batch_size: int,
    budget: TokenBudget | None,
) -> tuple[tuple[ExampleKey, ...], list[_Bucket]]:
    """Sets the validation examples apart and sorts the rest into buckets of equal shape.

    Validation takes from the end of a source, training from the rest, so that no stage trains on another's validation.
    """
    held: list[ExampleKey] = []
    buckets: list[_Bucket] = []
    for place, name in enumerate(stage.sources):
        source = sources[name]
        fits = _fitting(stage, source)
        share = -(-validation_scenes // len(stage.sources))
        reserve = min(len(source) // 4, max(16 * validation_scenes, 256))  # equal in every stage
        late = fits[fits >= len(source) - reserve]
        rng = numpy_generator(seed, VALIDATION, number, place)
        chosen = np.sort(rng.permutation(late)[:share])
        held.extend(ExampleKey(number, len(held) + i, name, int(index)) for i, index in enumerate(chosen))
        buckets.extend(_bucketed(name, source, fits[fits < len(source) - reserve], batch_size, budget))
    if not buckets:
        raise DataError(_nothing_left(stage, sources))
    return tuple(held[:validation_scenes]), buckets


def _fitting(stage: StagePlan, source: DataSource) -> NDArray[np.int64]:
    counts = np.asarray(source.subject_counts)
    most = np.iinfo(np.int64).max if stage.max_subjects is None else stage.max_subjects
    return np.flatnonzero((counts >= stage.min_subjects) & (counts <= most)).astype(np.int64)


def _bucketed(
    name: str, source: DataSource, indices: NDArray[np.int64], batch_size: int, budget: TokenBudget | None
) -> list[_Bucket]:
    if len(indices) == 0:
        return []
    shapes = np.column_stack([np.asarray(source.subject_counts)[indices], np.asarray(source.sizes)[indices]])
    found, groups = np.unique(shapes, axis=0, return_inverse=True)
    batches = [batch_size if budget is None else budget.batch(batch_size, *map(int, shape)) for shape in found]
    return [_Bucket(name, indices[groups.ravel() == group], batch) for group, batch in enumerate(batches)]


def _source_total(buckets: Sequence[_Bucket], source: str) -> int:
    return sum(len(bucket.indices) for bucket in buckets if bucket.source == source)


def _turns(drawn: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How often each drawn bucket was drawn before."""
    turns = np.zeros(len(drawn), np.int64)
    for bucket in range(count):
        places = np.flatnonzero(drawn == bucket)
        turns[places] = np.arange(len(places))
    return turns


def _nothing_left(stage: StagePlan, sources: Mapping[str, DataSource]) -> str:
    upper = "any" if stage.max_subjects is None else str(stage.max_subjects)
    counts = [np.asarray(sources[name].subject_counts) for name in stage.sources]
    everything = np.concatenate(counts) if counts else np.zeros(0, np.int64)
    have = f"{everything.min()} to {everything.max()}" if len(everything) else "no"
    return (
        f"stages.{stage.name}: {stage.min_subjects} to {upper} subjects leaves 0 of {len(everything)} examples "
        f"(the sources {', '.join(stage.sources)} have {have} subjects per example); change `subjects` or the sources"
    )
