"""Identities of one scene are drawn apart, and training never shows what is held out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.looks import draw_looks
from sigma_datasources.toybox.solids import SOLIDS
from sigma_datasources.toybox.textures import PATTERNS

CASES = [
    {},
    {"split": "test"},
    {"same_colour": True},
    {"split": "test", "holdout": "shapes"},
    {"split": "test", "holdout": "textures"},
    {"split": "test", "holdout": "colours"},
]


def scenes(options: dict, counts: tuple[int, ...] = (2, 4, 10), repeats: int = 40) -> list:
    config = ToyboxConfig(**options)
    rng = np.random.default_rng(0)
    return [draw_looks(rng, count, config) for count in counts for _ in range(repeats)]


@pytest.mark.parametrize("options", CASES)
def test_any_two_subjects_differ_in_two_things(options):
    for looks in scenes(options):
        for a, b in combinations(looks, 2):
            assert (a.solid != b.solid) + (a.texture != b.texture) + (a.colour != b.colour) >= 2
            if options.get("same_colour"):
                assert a.colour == b.colour
                assert a.second == b.second
                assert a.solid != b.solid
                assert a.texture != b.texture


def test_main_colours_are_all_different_while_there_are_enough():
    for looks in scenes({}):
        assert len({look.colour for look in looks}) == len(looks)


def test_training_shows_nothing_held_out_and_everything_else():
    shown = [look for looks in scenes({}) + scenes({"same_colour": True}) for look in looks]
    assert {look.solid for look in shown} == set(vocabulary.SOLIDS)
    assert {look.texture for look in shown} == set(vocabulary.TEXTURES)
    assert {look.colour for look in shown} == set(vocabulary.COLOURS)


@pytest.mark.parametrize(
    ("holdout", "field", "names"),
    [
        ("shapes", "solid", vocabulary.HELD_OUT_SOLIDS),
        ("textures", "texture", vocabulary.HELD_OUT_TEXTURES),
        ("colours", "colour", tuple(vocabulary.HELD_OUT_COLOURS)),
    ],
)
def test_every_subject_of_a_held_out_scene_is_new(holdout, field, names):
    for looks in scenes({"split": "test", "holdout": holdout}):
        assert {getattr(look, field) for look in looks} <= set(names)


def test_two_colours_of_a_texture_differ_in_brightness():
    weights = np.array([0.3, 0.59, 0.11])
    for looks in scenes({}):
        for look in looks:
            assert abs(np.dot(weights, look.main) - np.dot(weights, look.second)) > 0.2


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_patterns_show_both_colours_and_lean_to_the_main_one(name):
    u, v = np.meshgrid(np.linspace(-1.5, 1.5, 120, dtype=np.float32), np.linspace(-1.5, 1.5, 120, dtype=np.float32))
    share = PATTERNS[name](u.ravel(), v.ravel(), v.ravel() / 1.5)
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.mean() == 0 if name == "plain" else 0.1 < share.mean() < 0.56


def test_half_sizes_follow_the_proportions():
    for looks in scenes({}, counts=(10,), repeats=5):
        for look in looks:
            np.testing.assert_allclose(look.half_sizes, np.array(SOLIDS[look.solid].extents) * look.proportions)
