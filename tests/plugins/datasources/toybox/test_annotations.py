"""Masks, depth and boxes against ray casting in double precision from the 3D box alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.layout import euler_degrees
from sigma_datasources.toybox.scenery import draw_scenery, smallest_pixels
from sigma_datasources.toybox.source import ToyboxSource, generator_of
from sigma_framework import Box3D, Example

COUNTS = (1, 4, 10)


def rotation_of(box: Box3D) -> np.ndarray:
    """R = Rz Ry Rx, written out once more."""
    rx, ry, rz = np.radians(box.rotation)
    about_x = np.array([[1, 0, 0], [0, math.cos(rx), -math.sin(rx)], [0, math.sin(rx), math.cos(rx)]])
    about_y = np.array([[math.cos(ry), 0, math.sin(ry)], [0, 1, 0], [-math.sin(ry), 0, math.cos(ry)]])
    about_z = np.array([[math.cos(rz), -math.sin(rz), 0], [math.sin(rz), math.cos(rz), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def corners_of(box: Box3D) -> np.ndarray:
    """(8, 3) camera coordinates."""
    signs = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    return signs * box.size @ rotation_of(box).T + box.center


def pixel_rays(example: Example) -> np.ndarray:
    """(H, W, 3) through pixel centres, z = 1."""
    height, width, _ = example.target.shape
    camera = example.subjects[0].camera
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones_like(rows)], axis=-1)


@pytest.fixture(scope="module", params=[128, (160, 96)], ids=str)
def examples(request: pytest.FixtureRequest) -> list[Example]:
    made = []
    for count in COUNTS:
        config = ToyboxConfig(
            seed=3, count=8, min_subjects=count, max_subjects=count, image_size=request.param, identity_size=16
        )
        made += list(ToyboxSource(config))
    return made


def test_shapes_types_and_disjoint_masks(examples):
    for example in examples:
        size = example.target.shape[:2]
        assert example.target.dtype == np.uint8
        assert example.target.flags.c_contiguous
        total = np.zeros(size, int)
        for subject in example.subjects:
            assert subject.mask.dtype == bool
            assert subject.depth.dtype == np.float32
            assert subject.mask.shape == subject.depth.shape == size
            assert (subject.depth[~subject.mask] == 0).all()
            assert (subject.depth[subject.mask] > 0).all()
            total += subject.mask
        assert total.max() == 1


def test_box2d_is_the_tight_box_of_the_visible_mask(examples):
    for example in examples:
        for subject in example.subjects:
            rows, columns = np.nonzero(subject.mask)
            assert subject.box2d == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_depth_puts_every_pixel_on_the_surface_inside_the_box(examples):
    for example in examples:
        directions = pixel_rays(example)
        for subject in example.subjects:
            points = directions[subject.mask] * subject.depth[subject.mask][:, None]
            own = (points - subject.box3d.center) @ rotation_of(subject.box3d) / (np.array(subject.box3d.size) / 2)
            assert np.abs(own).max() < 1 + 2e-4
            corners = corners_of(subject.box3d)[:, 2]
            assert corners.min() - 1e-4 < subject.depth[subject.mask].min()
            assert subject.depth[subject.mask].max() < corners.max() + 1e-4


def test_projected_box_corners_enclose_the_mask(examples):
    for example in examples:
        for subject in example.subjects:
            corners = corners_of(subject.box3d)
            columns = subject.camera.fx * corners[:, 0] / corners[:, 2] + subject.camera.cx
            rows = subject.camera.fy * corners[:, 1] / corners[:, 2] + subject.camera.cy
            x0, y0, x1, y1 = subject.box2d
            assert columns.min() <= x0 + 0.501
            assert columns.max() >= x1 - 0.501
            assert rows.min() <= y0 + 0.501
            assert rows.max() >= y1 - 0.501


def test_cubes_and_spheres_match_a_reference_that_sees_only_the_boxes(examples):
    """Every subject whose solid is known in closed form, cast in float64 from its Box3D; owners by nearest depth."""
    checked = 0
    for example in examples:
        directions = pixel_rays(example)
        for subject in example.subjects:
            solid = subject.caption.split()[-1]
            if solid not in {"cube", "sphere"}:
                continue
            half = np.array(subject.box3d.size) / 2
            turn = rotation_of(subject.box3d)
            own = directions @ turn / half
            origin = -np.array(subject.box3d.center) @ turn / half
            reference = cast_cube(origin, own) if solid == "cube" else cast_sphere(origin, own)
            hidden = np.zeros(subject.mask.shape, bool)
            for other in example.subjects:
                if other is not subject:
                    hidden |= other.mask & (other.depth < reference)
            expected = np.isfinite(reference) & ~hidden
            assert (expected != subject.mask).sum() <= 2  # rounding, where a ray grazes an edge
            both = expected & subject.mask
            np.testing.assert_allclose(subject.depth[both], reference[both], rtol=2e-4)
            checked += 1
    assert checked >= 10


def cast_cube(origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    near, far = (-1 - origin) / directions, (1 - origin) / directions
    first, last = np.minimum(near, far).max(axis=-1), np.maximum(near, far).min(axis=-1)
    return np.where(first <= last, first, np.inf)


def cast_sphere(origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    a, b, c = (directions**2).sum(-1), directions @ origin, (origin**2).sum() - 1
    with np.errstate(invalid="ignore"):
        return np.nan_to_num((-b - np.sqrt(b * b - a * c)) / a, nan=np.inf)


def test_solids_stand_on_one_ground(examples):
    for example in examples:
        lowest = []
        for subject in example.subjects:
            turn = rotation_of(subject.box3d)
            down = turn[:, 1]
            assert abs(turn[0, 1]) < 1e-6  # no roll: down has no sideways part
            lowest.append(np.dot(subject.box3d.center, down) + subject.box3d.size[1] / 2)
        np.testing.assert_allclose(lowest, lowest[0], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 6, 10])
def test_subjects_stay_large_visible_and_inside(count):
    config = ToyboxConfig(min_subjects=count, max_subjects=count)
    spans = []
    for index in range(25):
        scenery = draw_scenery(generator_of(11, "train", index), count, config)
        seen = scenery.seen
        assert (seen.visible >= 0.6 * seen.full).all()
        assert (seen.visible >= smallest_pixels(count, 128, 128)).all()
        border = np.concatenate([seen.owner[0], seen.owner[-1], seen.owner[:, 0], seen.owner[:, -1]])
        assert (border == -1).all()
        for k in range(count):
            rows, columns = np.nonzero(seen.owner == k)
            spans.append((max(np.ptp(rows), np.ptp(columns)) + 1) / 128)
    low, high = {1: (0.45, 0.70), 3: (0.33, 0.52), 6: (0.24, 0.38), 10: (0.19, 0.285)}[count]
    assert low < np.median(spans) < high
    assert np.percentile(spans, 5) > low * 0.85
    assert max(spans) < high * 1.08


def test_euler_angles_invert_the_convention():
    rng = np.random.default_rng(0)
    for _ in range(50):
        angles = rng.uniform([-179, -89, -179], [179, 89, 179])
        rotation = rotation_of(Box3D(center=(0, 0, 1), size=(1, 1, 1), rotation=tuple(angles)))
        np.testing.assert_allclose(euler_degrees(rotation), angles, atol=1e-6)


def test_whole_depth_holds_the_subjects_and_the_ground_behind_them() -> None:
    source = ToyboxSource(ToyboxConfig(image_size=64, identity_size=32, count=3))
    for index in range(3):
        depth, example = source.whole_depth(index), source[index]
        assert depth.shape == (64, 64) and depth.dtype == np.float32
        shown = np.any([one.mask for one in example.subjects], axis=0)
        for one in example.subjects:
            assert one.depth is not None
            assert np.array_equal(depth[one.mask], one.depth[one.mask])
        ground = np.where(shown, np.nan, depth)
        bottom, top = np.nanmean(ground[-8:]), np.nanmax(ground)
        assert 0 < bottom < top  # the ground comes nearer towards the lower edge
