"""The batch plan: stage filters, equal shapes, no repetition before a bucket is used up, nothing but the seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sigma_framework import DataError, Example
from sigma_framework.training.curriculum import StagePlan, TokenBudget, plan_batches
from sigma_framework.training.data_module import PlannedBatches


@dataclass(frozen=True)
class Counted:
    """A source of which only the counts are used."""

    counts: tuple[int, ...]
    side: int = 64

    @property
    def subject_counts(self) -> np.ndarray:
        return np.array(self.counts)

    @property
    def sizes(self) -> np.ndarray:
        return np.full((len(self.counts), 2), self.side)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> Example:
        raise AssertionError("planning reads no pixels")


def stage(
    name: str = "s", steps: int = 40, low: int = 1, high: int | None = None, sources: tuple[str, ...] = ("a",)
) -> StagePlan:
    return StagePlan(name=name, steps=steps, min_subjects=low, max_subjects=high, sources=sources)


SOURCE = Counted(tuple(1 + i % 10 for i in range(1000)))


def test_every_batch_fits_its_stage_and_has_one_subject_count() -> None:
    stages = [stage("s1", 30, 1, 4), stage("s2", 30, 3), stage("s3", 30, 5)]
    plan = plan_batches(stages, {"a": SOURCE}, {"a": 1.0}, 4, seed=3, validation_scenes=8)
    for step in range(plan.total_steps):
        current = stages[plan.stage_of(step)[0]]
        counts = {SOURCE.counts[key.index] for key in plan.batch(step)}
        assert len(counts) == 1
        (count,) = counts
        assert count >= current.min_subjects
        assert current.max_subjects is None or count <= current.max_subjects


def test_a_bucket_is_used_up_before_it_repeats() -> None:
    plan = plan_batches([stage(steps=30, low=2, high=2)], {"a": SOURCE}, {"a": 1.0}, 2, seed=0, validation_scenes=4)
    seen = [key.index for step in range(30) for key in plan.batch(step)]
    size = len(plan.buckets[0][0].indices)
    assert len(set(seen[:size])) == min(size, len(seen))


def test_validation_examples_are_never_trained_on_in_any_stage() -> None:
    stages = [stage("s1", 100, 1, 4), stage("s2", 100, 3)]
    plan = plan_batches(stages, {"a": SOURCE}, {"a": 1.0}, 8, seed=1, validation_scenes=16)
    held = {key.index for part in plan.validation for key in part}
    trained = {key.index for step in range(plan.total_steps) for key in plan.batch(step)}
    assert all(len(part) == 16 for part in plan.validation)
    assert not held & trained


def test_stages_with_more_sources_keep_their_hands_off_too() -> None:
    sources = {name: Counted(tuple(1 + i % 5 for i in range(4000))) for name in "abc"}
    stages = [stage("s1", 400, 1, 4, ("a", "b", "c")), stage("s2", 100, 3, None, ("a",))]
    plan = plan_batches(stages, sources, dict.fromkeys("abc", 1.0), 8, seed=1, validation_scenes=64)
    held = {(key.source, key.index) for part in plan.validation for key in part}
    trained = {(key.source, key.index) for step in range(plan.total_steps) for key in plan.batch(step)}
    assert not held & trained


def test_the_plan_depends_on_the_seed_alone() -> None:
    def keys(seed: int) -> list[object]:
        plan = plan_batches([stage()], {"a": SOURCE}, {"a": 1.0}, 4, seed=seed, validation_scenes=8)
        return [plan.batch(step) for step in (39, 0, 17)]

    assert keys(5) == keys(5)
    assert keys(5) != keys(6)


def test_sources_are_mixed_by_weight() -> None:
    sources = {"a": Counted((2,) * 900), "b": Counted((2,) * 100)}
    plan = plan_batches(
        [stage(steps=4000, sources=("a", "b"))], sources, {"a": 1.0, "b": 3.0}, 1, seed=0, validation_scenes=4
    )
    share = np.mean([plan.batch(step)[0].source == "b" for step in range(4000)])
    assert share == pytest.approx(0.75, abs=0.03)


def test_pictures_of_two_sizes_never_share_a_batch() -> None:
    sources = {"a": Counted((2,) * 100, 64), "b": Counted((2,) * 100, 96)}
    plan = plan_batches([stage(sources=("a", "b"))], sources, {"a": 1.0, "b": 1.0}, 4, seed=0, validation_scenes=4)
    assert all(len({key.source for key in plan.batch(step)}) == 1 for step in range(40))


def test_a_stage_that_leaves_nothing_says_so() -> None:
    with pytest.raises(DataError, match=r"stages\.s: 11 to any subjects leaves 0 of 1000 .* have 1 to 10"):
        plan_batches([stage(low=11)], {"a": SOURCE}, {"a": 1.0}, 4, seed=0, validation_scenes=4)


def test_processes_share_every_batch_and_a_resume_starts_where_it_stopped() -> None:
    plan = plan_batches([stage()], {"a": SOURCE}, {"a": 1.0}, 4, seed=0, validation_scenes=4)
    whole = [plan.batch(step) for step in range(40)]
    parts = [list(PlannedBatches(plan, 10, rank, 2)) for rank in range(2)]
    joined = [sorted(first + second, key=lambda key: key.position) for first, second in zip(*parts, strict=True)]
    assert joined == whole[10:]


BUDGET = TokenBudget(tokens=8 * 6000, identity_size=256, pixels_per_token=16)
MANY = Counted(tuple(3 + i % 8 for i in range(4000)), 512)


def test_eight_processes_have_equal_work_in_every_step() -> None:
    """Random order gives a ratio of 1.2 to 1.3 (the slowest of eight over their mean)."""
    for budget in (None, BUDGET):
        plan = plan_batches([stage(steps=200)], {"a": MANY}, {"a": 1.0}, 8, seed=0, validation_scenes=4, budget=budget)
        ratios = []
        for batches in zip(*(PlannedBatches(plan, 0, rank, 8) for rank in range(8)), strict=True):
            work = [sum(BUDGET.example(MANY.counts[key.index], 512, 512) for key in batch) for batch in batches]
            ratios.append(max(work) / np.mean(work))
        assert len(ratios) == 200
        assert np.mean(ratios) <= 1.02


def test_a_token_budget_fills_every_step_and_keeps_the_mixture() -> None:
    plan = plan_batches([stage(steps=3000)], {"a": MANY}, {"a": 1.0}, 2, seed=0, validation_scenes=4, budget=BUDGET)
    seen = [[MANY.counts[key.index] for key in plan.batch(step)] for step in range(3000)]
    for counts in seen:
        tokens = BUDGET.example(counts[0], 512, 512)
        assert len(counts) * tokens <= BUDGET.tokens < (len(counts) + 2) * tokens
    share = np.bincount(np.concatenate(seen), minlength=11)[3:] / sum(len(counts) for counts in seen)
    assert share == pytest.approx(np.full(8, 1 / 8), abs=0.02)
    assert plan.weight_total(0) == pytest.approx(np.mean([len(counts) for counts in seen]))
    positions = [key.position for step in range(3000) for key in plan.batch(step)]
    assert len(set(positions)) == len(positions)


def test_parts_of_a_step_are_its_batch() -> None:
    plan = plan_batches([stage()], {"a": SOURCE}, {"a": 1.0}, 8, seed=0, validation_scenes=4)
    parts = [iter(PlannedBatches(plan, 3, rank, 2, accumulate=2)) for rank in range(2)]
    first = [key for rank in parts for _ in range(2) for key in next(rank)]
    assert sorted(first, key=lambda key: key.position) == plan.batch(3)
    assert len(PlannedBatches(plan, 3, 0, 2, accumulate=2)) == 2 * 37
