"""Identity blocks, the layout picture, prompts and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_framework.conditioning import draw_layout, draw_prompt_kind, render_prompt, square_on_white, stack
from sigma_framework.conditioning.augment import dilate_mask, draw_dilation, draw_dropped_channel, jitter_box


def test_a_photograph_is_fitted_whole_on_white() -> None:
    block = square_on_white(np.full((20, 40, 3), 9, np.uint8), 64)
    assert block.shape == (64, 64, 3)
    assert (block[16:48] == 9).all() and (block[:16] == 255).all() and (block[48:] == 255).all()


def test_a_cut_out_is_cropped_and_padded() -> None:
    image = np.full((100, 100, 3), 255, np.uint8)
    image[30:60, 10:50] = 20
    cutout = np.zeros((100, 100), np.bool_)
    cutout[30:60, 10:50] = True
    block = square_on_white(image, 52, cutout)
    dark = block[:, :, 0] == 20
    assert np.array_equal(np.flatnonzero(dark.any(axis=0)), np.arange(6, 46))  # 52 / 1.3 = 40 wide, centred
    assert np.array_equal(np.flatnonzero(dark.any(axis=1)), np.arange(11, 41))


def test_blocks_stack_in_subject_order() -> None:
    blocks = [np.full((8, 8, 3), value, np.uint8) for value in (1, 2, 3)]
    assert stack(blocks)[::8, 0, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="one size"):
        stack([blocks[0], np.zeros((4, 8, 3), np.uint8)])


def test_layout_shows_every_region_in_its_own_colour() -> None:
    regions = np.zeros((25, 30, 100), np.bool_)
    for index in range(25):
        regions[index, :, 4 * index : 4 * index + 4] = True
    photo = np.full((30, 100, 3), 40, np.uint8)
    for background in (None, photo):
        picture = draw_layout(regions, [""] * 25, background)
        colours = {tuple(picture[15, 4 * index + 1]) for index in range(25)}
        assert picture.shape == (30, 100, 3) and len(colours) == 25
    assert (photo == 40).all()
    plain = draw_layout(regions[:1], ["mug"], labels=False)
    assert (plain[:, 50:] == 235).all()
    assert (draw_layout(regions[:1], ["mug"]) != plain).any()  # the name is written


def test_names_that_would_overlap_become_numbers() -> None:
    regions = np.zeros((2, 40, 200), np.bool_)
    regions[0, :, 10:60] = regions[1, :, 140:190] = True
    near = np.roll(regions[1], -90, axis=1)
    apart = draw_layout(regions, ["octahedron", "cylinder"])
    crowded = draw_layout(np.stack([regions[0], near]), ["octahedron", "cylinder"])
    assert (crowded == draw_layout(np.stack([regions[0], near]), ["1", "2"])).all()
    assert (apart != draw_layout(regions, ["1", "2"])).any()
    hidden = np.stack([near, np.zeros_like(near), near])
    assert (draw_layout(hidden, ["hexagon", "x", "octahedron"]) == draw_layout(hidden, ["1", "x", "3"])).all()


def test_prompt_templates_are_the_papers() -> None:
    assert render_prompt("a {table} ", "background") == "Place these subjects in a {table}"
    assert render_prompt("a cat", "full") == "Place these subjects to compose: a cat"
    rng = np.random.default_rng(0)
    kinds = [draw_prompt_kind(rng) for _ in range(400)]
    assert 150 < kinds.count("full") < 250


def test_channel_dropout_is_uniform_over_three_with_probability_one_tenth() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_dropped_channel(rng) for _ in range(6000)]
    counts = [drawn.count(channel) for channel in (0, 1, 2)]
    assert all(150 < count < 250 for count in counts) and drawn.count(None) == 6000 - sum(counts)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6))
def test_dilation_is_every_pixel_within_the_radius(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((14, 17)) < 0.03
    rows, columns = np.nonzero(mask)
    grid = np.indices(mask.shape)
    wanted = mask.copy()
    for row, column in zip(rows, columns, strict=True):
        wanted |= (grid[0] - row) ** 2 + (grid[1] - column) ** 2 <= radius**2
    before = mask.copy()
    assert np.array_equal(dilate_mask(mask, radius), wanted)
    assert np.array_equal(mask, before)


def test_dilation_is_drawn_from_its_range() -> None:
    rng = np.random.default_rng(0)
    radii = [draw_dilation(rng, (100, 300), (0.01, 0.02)) for _ in range(200)]
    assert 1.0 <= min(radii) < 1.1 and 1.9 < max(radii) <= 2.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_box_jitter_changes_the_aspect_by_one_percent_at_most(seed: int) -> None:
    x0, y0, x1, y1 = jitter_box((10, 20, 50, 40), np.random.default_rng(seed))
    assert (x0 + x1) / 2 == pytest.approx(30) and (y0 + y1) / 2 == pytest.approx(30)
    assert 0.99 - 1e-9 <= (x1 - x0) / (y1 - y0) / 2 <= 1.01 + 1e-9
    grown = jitter_box((10, 20, 50, 40), np.random.default_rng(seed), radius=3, aspect=0)
    assert grown == pytest.approx((7, 17, 53, 43))
