"""What every metric is held to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from sigma_framework.protocols import Metric
from sigma_framework.specs import MetricSpec
from sigma_framework.testing.component import ComponentConformance, same, untouched_global_randomness
from sigma_framework.testing.toys import toy_example, toy_result, toy_scene
from sigma_framework.types import RgbImage

Values = dict[str, list[float]]


class MetricConformance(ComponentConformance):
    """Inherit, set ``spec``; ``options`` where the config has required fields."""

    spec: ClassVar[MetricSpec]
    protocol = Metric

    def target(self) -> RgbImage:
        """(H, W, 3) uint8: the ground truth of every test."""
        return toy_example(2).target

    def pictures(self) -> Sequence[RgbImage]:
        """The target, a noisy copy and a flat picture: from right to wrong."""
        target = self.target()
        noise = np.random.default_rng(0).normal(0, 25, target.shape)
        noisy = np.clip(target + noise, 0, 255).astype(np.uint8)
        return target, noisy, np.full_like(target, 20)

    def measured(self, pictures: Sequence[RgbImage], target: RgbImage | None) -> Values:
        """A fresh metric's values for one result per picture."""
        metric, scene = self.make(), toy_scene()
        for picture in pictures:
            metric.update(toy_result([picture], scene), scene, target)
        return {name: list(values) for name, values in metric.compute().items()}

    def test_one_number_per_image(self) -> None:
        pictures = self.pictures()
        values = self.measured(pictures, self.target())
        assert values, "compute gave no name"
        for name, numbers in values.items():
            assert len(numbers) == len(pictures), f"{name}: found {len(numbers)} values for {len(pictures)} images"
            assert all(isinstance(number, float) for number in numbers), f"{name}: values must be Python floats"

    def test_a_result_of_several_images_counts_several(self) -> None:
        metric, scene, pictures = self.make(), toy_scene(), self.pictures()
        metric.update(toy_result(list(pictures), scene), scene, self.target())
        single = self.measured(pictures, self.target())
        assert same({name: list(values) for name, values in metric.compute().items()}, single)

    def test_values_keep_the_order_of_updates(self) -> None:
        pictures, target = self.pictures(), self.target()
        forwards, backwards = self.measured(pictures, target), self.measured(pictures[::-1], target)
        for name, numbers in forwards.items():
            assert np.allclose(numbers, backwards[name][::-1], rtol=1e-4, atol=1e-6, equal_nan=True), (
                f"{name}: an image's value depends on the others or on the order"
            )

    def test_measuring_is_deterministic_and_writes_nothing(self) -> None:
        target = self.target()
        target.flags.writeable = False
        with untouched_global_randomness():
            assert same(self.measured(self.pictures(), target), self.measured(self.pictures(), target))

    def test_compute_can_be_asked_twice(self) -> None:
        metric, scene = self.make(), toy_scene()
        metric.update(toy_result([self.target()], scene), scene, self.target())
        first: Mapping[str, Sequence[float]] = metric.compute()
        assert same({k: list(v) for k, v in first.items()}, {k: list(v) for k, v in metric.compute().items()})

    def test_the_target_itself_scores_best(self) -> None:
        if "target" not in self.spec.needs:
            return
        sign = 1 if self.spec.better == "higher" else -1
        for name, (right, noisy, wrong) in self.measured(self.pictures(), self.target()).items():
            assert sign * right > sign * noisy, f"{name}: a noisy copy scores as well as the target"
            assert sign * right > sign * wrong, f"{name}: a flat picture scores as well as the target"

    def test_without_a_target_it_says_nan(self) -> None:
        if "target" not in self.spec.needs:
            return
        values = self.measured(self.pictures()[:1], None)
        assert all(math.isnan(number) for numbers in values.values() for number in numbers)
