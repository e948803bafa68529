"""Routing, structure and warnings: properties that hold for any layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_framework import Camera, Canvas, ControlLayer, DepthRaster, SceneError
from sigma_framework.conditioning import compose
from sigma_framework.conditioning.control_image import Composition
from sigma_framework.types import MAX_SUBJECTS

HEIGHT, WIDTH = 24, 32
CANVAS = Canvas(width=WIDTH, height=HEIGHT, camera=Camera.from_fov_y(50, WIDTH, HEIGHT))


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    region = np.zeros((HEIGHT, WIDTH), np.bool_)
    region[y0:y1, x0:x1] = True
    return region


def layer(x0: int, y0: int, x1: int, y1: int, z: float | None = None, **keys: object) -> ControlLayer:
    depth = None if z is None else np.full((HEIGHT, WIDTH), z, np.float32)
    return ControlLayer(region=rectangle(x0, y0, x1, y1), depth=depth, **keys)


def names(count: int) -> list[str]:
    return [f"s{index}" for index in range(count)]


@st.composite
def scattered_layers(draw: st.DrawFn, most: int = 8) -> list[ControlLayer]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for _ in range(draw(st.integers(1, most))):
        region = rng.random((HEIGHT, WIDTH)) < rng.uniform(0.02, 0.7)
        region[rng.integers(HEIGHT), rng.integers(WIDTH)] = True
        depth = rng.uniform(0.5, 9, (HEIGHT, WIDTH)).astype(np.float32) if rng.random() < 0.7 else None
        if depth is not None:
            depth[~region] = np.nan  # outside the region nothing is read
        layers.append(ControlLayer(region=region, depth=depth))
    return layers


@settings(max_examples=60, deadline=None)
@given(scattered_layers())
def test_routing_properties(layers: list[ControlLayer]) -> None:
    composed = compose(layers, names(len(layers)), CANVAS)
    ascending, descending = composed.spatial[:, :, 0], composed.spatial[:, :, 1]
    union = np.any([layer.region for layer in layers], axis=0)
    assert np.array_equal(ascending > 0, union) and np.array_equal(descending > 0, union)
    assert not (ascending % 10).any() and ascending.max() <= 10 * len(layers)
    stack = np.array([layer.region * 10 * (index + 1) for index, layer in enumerate(layers)])
    assert np.array_equal(ascending, stack.max(axis=0))  # the last one lies on top
    lowest = np.where(stack > 0, stack, 999).min(axis=0)
    assert np.array_equal(descending, np.where(union, lowest, 0))  # the first one lies on top
    assert np.array_equal(composed.regions, [layer.region for layer in layers])


@settings(max_examples=60, deadline=None)
@given(scattered_layers())
def test_structure_is_the_formula_over_the_nearest(layers: list[ControlLayer]) -> None:
    structure = compose(layers, names(len(layers)), CANVAS).spatial[:, :, 2]
    inverse = np.zeros((HEIGHT, WIDTH))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            here = [item.depth[row, column] for item in layers if item.depth is not None and item.region[row, column]]
            inverse[row, column] = 1 / float(min(here)) if here else 0
    given_pixels = inverse > 0
    assert np.array_equal(structure > 0, given_pixels)
    if given_pixels.any():
        low, high = inverse[given_pixels].min(), inverse.max()
        wanted = 26 + np.rint(229 * (inverse - low) / (high - low)) if high > low else np.full_like(inverse, 255)
        assert np.array_equal(structure[given_pixels], wanted[given_pixels])


@settings(max_examples=30, deadline=None)
@given(scattered_layers(), st.integers(2, 3))
def test_flip_and_resize_commute(layers: list[ControlLayer], factor: int) -> None:
    plain = compose(layers, names(len(layers)), CANVAS).spatial

    def moved(change: object) -> list[ControlLayer]:
        return [
            ControlLayer(region=change(one.region), depth=None if one.depth is None else change(one.depth))
            for one in layers
        ]

    def enlarge(values: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(values, factor, axis=0), factor, axis=1)

    flipped = compose(moved(np.fliplr), names(len(layers)), CANVAS).spatial
    assert np.array_equal(flipped, plain[:, ::-1])
    large = Canvas(width=WIDTH * factor, height=HEIGHT * factor, camera=CANVAS.camera)
    assert np.array_equal(compose(moved(enlarge), names(len(layers)), large).spatial, enlarge(plain))


def test_precise_masks_give_equal_channels() -> None:
    spatial = compose([layer(0, 0, 8, 8), layer(8, 0, 16, 8)], names(2), CANVAS).spatial
    assert np.array_equal(spatial[:, :, 0], spatial[:, :, 1])
    assert not spatial[:, :, 2].any()  # a mask alone has no structure


def test_25_subjects_fit_and_26_do_not() -> None:
    layers = [layer(index, 0, index + 1, 4) for index in range(26)]
    assert compose(layers[:25], names(25), CANVAS).spatial[0, 24, 0] == 250 == 10 * MAX_SUBJECTS
    with pytest.raises(SceneError, match="found 26, expected 1 to 25"):
        compose(layers, names(26), CANVAS)


def test_all_bad_regions_are_named_at_once() -> None:
    wrong = ControlLayer(region=np.ones((3, 3), np.bool_))
    with pytest.raises(SceneError) as caught:
        compose([layer(0, 0, 0, 0), layer(0, 0, 4, 4), wrong], ["cat", "dog", "cup"], CANVAS)
    assert [problem.where for problem in caught.value.problems] == ["subjects[0] (cat)", "subjects[2] (cup)"]


def test_the_nearest_wins_whatever_the_order() -> None:
    near, far = layer(0, 0, 16, 16, 1.0), layer(8, 8, 24, 24, 4.0)
    for layers in ([near, far], [far, near]):
        structure = compose(layers, names(2), CANVAS).spatial[:, :, 2]
        assert structure[12, 12] == 255 and structure[20, 20] == 26 and structure[0, 31] == 0


def test_constant_depth_is_255() -> None:
    assert compose([layer(0, 0, 4, 4, 3.0)], names(1), CANVAS).spatial[0, 0, 2] == 255


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_unusable_depth_is_an_error(bad: float) -> None:
    good = layer(0, 0, 16, 16, 2.0)
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth[1, 1] = bad
    with pytest.raises(SceneError, match=r"subjects\[1\] \(s1\).*6% of its region"):
        compose([good, ControlLayer(region=rectangle(0, 0, 4, 4), depth=depth)], names(2), CANVAS)


def ramp(x0: int, x1: int, **keys: object) -> ControlLayer:
    values = np.repeat(np.arange(WIDTH, dtype=np.float32)[None], HEIGHT, axis=0)
    return ControlLayer(region=rectangle(x0, 0, x1, 8), depth=values, depth_kind="disparity", **keys)


def test_disparity_alone_is_used_directly() -> None:
    structure = compose([ramp(0, 8), ramp(8, 32)], names(2), CANVAS).spatial[0, :, 2]
    assert np.array_equal(structure, 26 + np.rint(229 * np.arange(32) / 31))


def test_disparity_with_near_and_far_mixes_with_metres() -> None:
    layers = [ramp(0, 16, near_metres=2.0, far_metres=8.0), layer(16, 0, 24, 8, 4.0)]
    composed = compose(layers, names(2), CANVAS)
    assert composed.structure_range == pytest.approx((1 / 8, 1 / 2))
    structure = composed.spatial[0, :, 2]
    assert (structure[0], structure[15]) == (26, 255)
    assert structure[20] == 26 + round(229 * (1 / 4 - 1 / 8) / (1 / 2 - 1 / 8))


def test_disparity_without_limits_does_not_mix() -> None:
    with pytest.raises(SceneError) as caught:
        compose([ramp(0, 8), layer(8, 0, 16, 8, 4.0), ramp(16, 20)], ["cat", "box", "dog"], CANVAS)
    assert [problem.where for problem in caught.value.problems] == ["subjects[0] (cat)", "subjects[2] (dog)"]
    assert "near and far" in str(caught.value) and "(box)" in str(caught.value)


def test_scene_structure_replaces_the_layers() -> None:
    eight_bits = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH).astype(np.uint8)
    composed = compose([layer(0, 0, 4, 4, 3.0)], names(1), CANVAS, structure=eight_bits)
    assert np.array_equal(composed.spatial[:, :, 2], eight_bits)


def test_a_growing_structure_keeps_its_values() -> None:
    values = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    values[:8] = np.linspace(1, 4, WIDTH)
    first = compose([layer(0, 0, 4, 4)], names(1), CANVAS, structure=DepthRaster(values=values, kind="metric"))
    assert first.structure_range == (0.25, 1.0) and not first.spatial[8:, :, 2].any()
    grown = values.copy()
    grown[8:] = 100.0
    second = compose(
        [layer(0, 0, 4, 4)],
        names(1),
        CANVAS,
        structure=DepthRaster(values=grown, kind="metric"),
        structure_range=(0.25, 1.0),
    )
    assert np.array_equal(first.spatial[:8], second.spatial[:8])
    assert (second.spatial[8:, :, 2] == 26).all()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_dropped_channel_is_zero_and_the_others_stay(channel: int) -> None:
    layers = [layer(0, 0, 8, 8, 1.0), layer(4, 4, 16, 16, 2.0)]
    full = compose(layers, names(2), CANVAS).spatial
    dropped = compose(layers, names(2), CANVAS, dropped_channel=channel).spatial
    assert not dropped[:, :, channel].any()
    others = [index for index in range(3) if index != channel]
    assert np.array_equal(dropped[:, :, others], full[:, :, others])


def test_a_subject_hidden_in_both_channels_is_named_with_who_covers_it() -> None:
    layers = [layer(0, 0, 16, 20), layer(4, 4, 14, 8), layer(2, 0, 30, 20)]
    warnings = compose(layers, ["sofa", "cat", "dog"], CANVAS).warnings
    hidden = [text for text in warnings if "cannot be seen" in text]
    assert hidden == ['subject "cat" cannot be seen: covered by "dog" (100%) and "sofa" (100%); reorder or shrink them']


def test_a_subject_hidden_in_one_channel_is_named_with_the_fraction() -> None:
    warnings = compose([layer(0, 0, 10, 10), layer(0, 0, 8, 10)], ["cat", "dog"], CANVAS).warnings
    assert 'subject "cat": 20% of its region is visible in the ascending channel, covered by "dog" (80%)' in warnings
    assert 'subject "dog": 0% of its region is visible in the descending channel, covered by "cat" (100%)' in warnings


@pytest.mark.parametrize(("shift", "warned"), [(3, True), (5, False)])
def test_boxes_that_overlap_by_more_than_six_tenths(shift: int, warned: bool) -> None:
    warnings = compose([layer(0, 0, 10, 10), layer(shift, 0, 10 + shift, 10)], ["cat", "dog"], CANVAS).warnings
    assert any("overlaps the box" in text for text in warnings) == warned


def test_a_quiet_layout_has_no_warnings() -> None:
    assert compose([layer(0, 0, 10, 10), layer(8, 0, 20, 10)], names(2), CANVAS).warnings == ()


@settings(max_examples=40, deadline=None)
@given(scattered_layers())
def test_ablated_routing(layers: list[ControlLayer]) -> None:
    """Table 6: the same order in both channels; one intensity for all. Structure is not touched."""
    proposed = compose(layers, names(len(layers)), CANVAS)
    order = compose(layers, names(len(layers)), CANVAS, composition=Composition(routing="one_order")).spatial
    assert np.array_equal(order[:, :, 0], proposed.spatial[:, :, 0])
    assert np.array_equal(order[:, :, 1], proposed.spatial[:, :, 0])
    equal = compose(layers, names(len(layers)), CANVAS, composition=Composition(routing="one_intensity"))
    union = np.any([layer.region for layer in layers], axis=0)
    assert np.array_equal(equal.spatial[:, :, :2], np.repeat(union[:, :, None] * 10, 2, axis=2))
    assert equal.warnings == proposed.warnings
    for spatial in (order, equal.spatial):
        assert np.array_equal(spatial[:, :, 2], proposed.spatial[:, :, 2])


def test_structure_can_be_stretched_over_each_subject_alone() -> None:
    near, far = layer(0, 0, 8, HEIGHT, 2.0), layer(8, 0, 16, HEIGHT, 20.0)
    assert near.depth is not None and far.depth is not None
    near.depth[:, :4], far.depth[:, 8:12] = 1.0, 10.0
    hidden = layer(0, 0, 2, HEIGHT, 30.0)
    layers = [near, far, hidden]
    together = compose(layers, names(3), CANVAS)
    alone = compose(layers, names(3), CANVAS, composition=Composition(structure="subject"))
    assert together.spatial[0, :, 2][10] < 60 < together.spatial[0, :, 2][6]
    assert alone.spatial[0, [1, 6, 10, 14], 2].tolist() == [255, 26, 255, 26]
    assert not alone.spatial[:, 16:, 2].any()
    assert alone.structure_range == together.structure_range
    assert np.array_equal(alone.spatial[:, :, :2], together.spatial[:, :, :2])
