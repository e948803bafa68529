"""Drawing a scene: arrangements that hide a subject are refused, and shadows fall where the light says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sigma_datasources.toybox import scenery as scenery_module
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.ground import render_ground
from sigma_datasources.toybox.scenery import draw_scenery
from sigma_datasources.toybox.source import generator_of
from sigma_framework import DataError

CONFIG = ToyboxConfig(min_subjects=3, max_subjects=3)


def test_an_arrangement_that_hides_a_subject_is_drawn_again(monkeypatch):
    arrange, calls = scenery_module.arrange, []

    def arrange_behind_one_another(rng, looks, view, shrink):
        poses = arrange(rng, looks, view, shrink)
        calls.append(shrink)
        return (poses[0],) * len(poses) if poses and len(calls) < 4 else poses

    monkeypatch.setattr(scenery_module, "arrange", arrange_behind_one_another)
    seen = draw_scenery(generator_of(0, "train", 0), 3, CONFIG).seen
    assert len(calls) >= 4
    assert calls == sorted(calls, reverse=True)
    assert len(set(calls)) == len(calls)  # every attempt is smaller
    assert (seen.visible >= 0.6 * seen.full).all()


def test_a_scene_that_never_fits_is_an_error_after_a_bounded_number_of_attempts(monkeypatch):
    monkeypatch.setattr(scenery_module, "arrange", lambda *_: None)
    with pytest.raises(DataError, match="3 subjects did not fit"):
        draw_scenery(generator_of(0, "train", 0), 3, CONFIG)


@pytest.mark.parametrize("size", [48, (200, 64), (64, 200)])
def test_ten_subjects_fit_into_small_and_long_pictures(size):
    config = ToyboxConfig(min_subjects=10, max_subjects=10, image_size=size)
    for index in range(5):
        seen = draw_scenery(generator_of(1, "train", index), 10, config).seen
        assert (seen.visible >= 0.6 * seen.full).all()


@pytest.mark.parametrize("index", range(6))
def test_shadows_lie_at_the_foot_away_from_the_light(index):
    drawn = draw_scenery(generator_of(2, "train", index), 1, CONFIG)
    view, pose = drawn.view, drawn.poses[0]
    lit, shadowed = (
        render_ground(drawn.place, view, drawn.backdrop, looks, poses)
        for looks, poses in (((), ()), (drawn.looks, drawn.poses))
    )
    share = (shadowed / lit).mean(axis=0)
    assert share.max() < 1.0001
    assert share.min() < 0.75
    assert (share > 0.999).mean() > 0.4  # far from the subject nothing changes
    rows, columns = np.nonzero(share < 0.9)
    x, _, z = drawn.place.light.direction
    spots = np.array([ground_of(view, column + 0.5, row + 0.5) for column, row in zip(columns, rows, strict=True)])
    away = (spots - pose.foot) @ np.array([-x, -z])
    assert away.max() > -away.min()  # it reaches farther from the light than towards it


def ground_of(view, column: float, row: float) -> tuple[float, float]:
    """Right and ahead of the ground under a pixel position, from the camera's definition."""
    ahead = view.ground_ahead(row)
    depth = ahead * math.cos(view.pitch) + view.altitude * math.sin(view.pitch)
    return (column - view.camera.cx) / view.camera.fx * depth, ahead


def test_rows_and_distances_on_the_ground_invert_one_another():
    view = draw_scenery(generator_of(2, "train", 0), 1, CONFIG).view
    for ahead in (0.5, 2.0, 7.0):
        assert view.ground_ahead(view.row_of_ground(ahead)) == pytest.approx(ahead)
    assert view.ground_ahead(-1e6) == math.inf
