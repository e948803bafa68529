"""Measures of generated images: right on the truth, at chance when shuffled, worse when shifted, worst on noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import ControlImages, Example, Metric, Result
from sigma_framework.testing import toy_scene
from sigma_metrics.config import (
    BackgroundChangeConfig,
    ConfusionConfig,
    IdentitySimilarityConfig,
    JudgeDepthMseConfig,
    MissingSubjectsConfig,
    RegionIouConfig,
    RoutingAccuracyConfig,
)
from sigma_metrics.layout import BackgroundChange, JudgeDepthMse, RegionIou, levels, overlaps
from sigma_metrics.matching import best_matching
from sigma_metrics.routing import Confusion, IdentitySimilarity, MissingSubjects, RoutingAccuracy

SUBJECTS = 4
MEASURES = {
    "routing_accuracy": lambda: RoutingAccuracy(RoutingAccuracyConfig()),
    "confusion": lambda: Confusion(ConfusionConfig()),
    "missing_subjects": lambda: MissingSubjects(MissingSubjectsConfig()),
    "identity_similarity": lambda: IdentitySimilarity(IdentitySimilarityConfig()),
    "region_iou": lambda: RegionIou(RegionIouConfig()),
    "judge_depth_mse": lambda: JudgeDepthMse(JudgeDepthMseConfig()),
    "background_change": lambda: BackgroundChange(BackgroundChangeConfig()),
}


def examples_of(**options: object) -> list[Example]:
    source = ToyboxSource(ToyboxConfig(split="test", min_subjects=SUBJECTS, max_subjects=SUBJECTS, count=5, **options))
    return [source[index] for index in range(len(source))]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return examples_of()


def result_of(example: Example, picture: np.ndarray, order: Sequence[int] | None = None, shift: int = 0) -> Result:
    """A result that shows ``picture``; ``order`` permutes the identities, ``shift`` moves the layout to the right."""
    regions = np.stack([np.roll(one.mask, shift, axis=1) for one in example.subjects])
    spatial = np.zeros((*regions.shape[1:], 3), np.uint8)
    near = np.zeros(regions.shape[1:], np.float32)
    for subject in example.subjects:
        assert subject.depth is not None
        near[subject.mask] = 1 / subject.depth[subject.mask]
    spatial[near > 0, 2] = np.rint(levels(near[near > 0])).astype(np.uint8)
    spatial = np.roll(spatial, shift, axis=1)
    identities = [example.identities[k] for k in order or range(len(example.identities))]
    controls = ControlImages(spatial=spatial, identity=np.concatenate(identities), regions=regions, layout=spatial)
    return Result(images=(Image.fromarray(picture),), controls=controls, scene=toy_scene(), seeds=(0,))


def mean(name: str, results: Sequence[tuple[Result, Example]]) -> float:
    metric: Metric = MEASURES[name]()
    for result, example in results:
        metric.update(result, result.scene, example.target)
    (values,) = metric.compute().values()
    assert len(values) == len(results)
    return float(np.mean(values))


def truth(examples: Sequence[Example]) -> list[tuple[Result, Example]]:
    return [(result_of(one, one.target), one) for one in examples]


def noise(examples: Sequence[Example]) -> list[tuple[Result, Example]]:
    rng = np.random.default_rng(0)
    return [(result_of(one, rng.integers(0, 256, one.target.shape, dtype=np.uint8)), one) for one in examples]


def shifted(examples: Sequence[Example], pixels: int) -> list[tuple[Result, Example]]:
    return [(result_of(one, one.target, shift=pixels), one) for one in examples]


def shuffled(examples: Sequence[Example]) -> list[tuple[Result, Example]]:
    """Every subject once in every place."""
    turns = [tuple(np.roll(np.arange(SUBJECTS), k)) for k in range(SUBJECTS)]
    return [(result_of(one, one.target, order=turn), one) for one in examples for turn in turns]


def test_routing_is_right_on_the_truth_at_chance_shuffled_and_nothing_on_noise(examples: list[Example]) -> None:
    assert mean("routing_accuracy", truth(examples)) >= 0.97
    assert mean("routing_accuracy", shuffled(examples)) == pytest.approx(1 / SUBJECTS, abs=0.02)
    assert mean("routing_accuracy", shifted(examples, 40)) < 0.6
    assert mean("routing_accuracy", noise(examples)) < 0.05


def test_routing_is_right_on_the_truth_of_one_colour() -> None:
    alike = examples_of(same_colour=True)
    assert mean("routing_accuracy", truth(alike)) >= 0.93
    assert mean("routing_accuracy", shuffled(alike)) == pytest.approx(1 / SUBJECTS, abs=0.03)


def test_one_exchanged_pair_is_two_mistakes(examples: list[Example]) -> None:
    one = next(one for one in examples if mean("routing_accuracy", truth([one])) == 1)
    swapped = [(result_of(one, one.target, order=(1, 0, 2, 3)), one)]
    assert mean("routing_accuracy", swapped) == 0.5
    assert mean("confusion", swapped) == 0.5


def test_confusion_mirrors_routing_and_counts_where_identities_went(examples: list[Example]) -> None:
    assert mean("confusion", truth(examples)) <= 0.03
    assert mean("confusion", shuffled(examples)) == pytest.approx(1 - 1 / SUBJECTS, abs=0.03)
    assert mean("confusion", noise(examples)) > 0.95
    metric = Confusion(ConfusionConfig())
    one = examples[0]
    result = result_of(one, one.target, order=(1, 2, 3, 0))
    metric.update(result, result.scene, one.target)
    rows = [line.strip("| ").split(" | ") for line in metric.markdown().splitlines()[2:]]
    assert [row[1:].index("1") for row in rows] == [3, 0, 1, 2]  # region 1 shows what is now the fourth image


def test_missing_subjects_are_counted(examples: list[Example]) -> None:
    assert mean("missing_subjects", truth(examples)) <= 0.03
    assert mean("missing_subjects", noise(examples)) > 0.9
    painted = []
    for one in examples:
        picture = one.target.copy()
        picture[one.subjects[0].mask] = np.median(picture[:4].reshape(-1, 3), axis=0).astype(np.uint8)
        painted.append((result_of(one, picture), one))
    assert mean("missing_subjects", painted) > mean("missing_subjects", truth(examples)) + 0.08


def test_similarity_falls_from_the_own_identity_over_others_to_noise(examples: list[Example]) -> None:
    own = mean("identity_similarity", truth(examples))
    others = mean("identity_similarity", [(result_of(one, one.target, order=(1, 2, 3, 0)), one) for one in examples])
    assert own > 0.75
    assert others < own - 0.4
    assert abs(mean("identity_similarity", noise(examples))) < 0.2


def test_region_iou_falls_with_the_shift(examples: list[Example]) -> None:
    scores = [mean("region_iou", shifted(examples, pixels)) for pixels in (0, 4, 12, 40)]
    assert scores[0] >= 0.85
    assert all(first > second + 0.05 for first, second in itertools.pairwise(scores))
    assert mean("region_iou", noise(examples)) < 0.05


def test_region_iou_does_not_repeat_the_layout(examples: list[Example]) -> None:
    """One body under two touching regions belongs to one of them, not to both."""
    one = examples[0]
    body = one.subjects[0].mask
    columns = np.flatnonzero(body.any(axis=0))
    middle = int(columns.mean())
    left = np.arange(body.shape[1])[None] < middle
    result = result_of(one, one.target)
    regions = np.stack([body & left, body & ~left])
    controls = ControlImages(
        spatial=result.controls.spatial, identity=result.controls.identity[:128], regions=regions, layout=one.target
    )
    split = Result(images=result.images, controls=controls, scene=result.scene, seeds=(0,))
    assert mean("region_iou", [(split, one)]) < 0.5


def test_depth_error_grows_from_truth_over_shifts_to_noise(examples: list[Example]) -> None:
    right, off = mean("judge_depth_mse", truth(examples)), mean("judge_depth_mse", shifted(examples, 40))
    assert right < 1500
    assert off > 2 * right
    assert mean("judge_depth_mse", noise(examples)) > 2 * right
    one = examples[0]
    result = result_of(one, one.target)
    result.controls.spatial[..., 2] = 0
    metric = MEASURES["judge_depth_mse"]()
    metric.update(result, result.scene, one.target)
    assert np.isnan(metric.compute()["judge_depth_mse"][0])


def test_background_change_looks_outside_the_regions_alone(examples: list[Example]) -> None:
    assert mean("background_change", truth(examples)) == 0
    inside, outside = [], []
    for one in examples:
        bodies = np.any([subject.mask for subject in one.subjects], axis=0)
        for where, made in ((bodies, inside), (~bodies, outside)):
            picture = one.target.copy()
            picture[where] = np.where(picture[where] > 127, picture[where] - 20, picture[where] + 20)
            made.append((result_of(one, picture), one))
    assert mean("background_change", inside) == 0
    assert mean("background_change", outside) == pytest.approx(20)
    assert mean("background_change", noise(examples)) > 40


def test_levels_span_the_channel() -> None:
    assert levels(np.array([1, 2, 3], np.float32)).tolist() == [26, 140.5, 255]
    assert levels(np.array([2, 2], np.float32)).tolist() == [255, 255]


def test_overlap_of_nothing_is_nothing() -> None:
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    assert overlaps(empty, empty).tolist() == [0]
    assert overlaps(full, full).tolist() == [1]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_matching_is_the_best_of_all_orders(count: int) -> None:
    rng = np.random.default_rng(count)
    for digits in (0, 1, 3):  # rounding makes ties
        scores = rng.normal(size=(count, count)).round(digits)
        found = best_matching(scores)
        assert sorted(found) == list(range(count))
        best = max(sum(scores[k, order[k]] for k in range(count)) for order in itertools.permutations(range(count)))
        assert scores[np.arange(count), found].sum() == pytest.approx(best)
