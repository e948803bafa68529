"""Toys are what they say, fixtures can be asked for, and control authors need no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sigma_framework import DataSourceSpec, Scene
from sigma_framework.plugin_host import PluginHost
from sigma_framework.testing import (
    DataSourceConformance,
    TinyBackbone,
    TinyConfig,
    ToySource,
    toy_canvas,
    toy_example,
    toy_result,
    toy_scene,
    toy_subjects,
)

pytest_plugins = ["sigma_framework.testing.fixtures"]


class TestToySource(DataSourceConformance):
    spec = DataSourceSpec(
        name="toys", config=TinyConfig, factory=lambda _: ToySource(), summary="toys", min_subjects=1, max_subjects=3
    )


def test_importing_the_kit_imports_no_torch() -> None:
    script = "import sys, sigma_framework.testing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0


def test_subjects_touch_and_cross_the_border() -> None:
    subjects = toy_subjects(toy_canvas())
    assert any(subject.mask[:, 0].any() for subject in subjects)
    assert any(subject.mask[:, -1].any() for subject in subjects)
    areas = [subject.mask.sum() for subject in subjects]
    assert min(areas) < 20
    assert max(areas) > 2000


def test_depth_bulges_towards_the_camera() -> None:
    for subject in toy_subjects(toy_canvas()):
        assert subject.depth is not None
        assert subject.box3d is not None
        inside = subject.depth[subject.mask]
        assert inside.min() > 0
        assert inside.max() <= subject.box3d.center[2]


def test_seeds_move_the_subjects_and_numbers_outside_are_refused() -> None:
    assert not np.array_equal(toy_example(2, seed=0).target, toy_example(2, seed=1).target)
    with pytest.raises(ValueError, match="expected 1 to 5"):
        toy_example(6)


def test_scene_and_result_agree() -> None:
    scene = toy_scene(3)
    assert isinstance(scene, Scene)
    result = toy_result([toy_example(3).target], scene)
    assert result.controls.regions.shape == (3, 64, 64)
    assert result.images[0].size == (64, 64)


def test_fixtures(plugin_host: PluginHost, toy_backbone: TinyBackbone, toy_source: ToySource) -> None:
    assert not plugin_host.components()
    assert not toy_backbone.trainable_parameters()
    assert len(toy_source) == 12
