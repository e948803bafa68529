"""The built-in controls against independent geometry."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sigma_controls.box2d import Box2DControl
from sigma_controls.box3d import Box3DControl, box_corners, rotation_matrix
from sigma_controls.config import Box2DConfig, Box3DConfig, DepthConfig, MaskConfig
from sigma_controls.depth import DepthControl
from sigma_controls.geometry import Box2DGeometry, Box3DGeometry, DepthGeometry, MaskGeometry
from sigma_controls.mask import MaskControl
from sigma_controls.plugin import sigma_register_controls
from sigma_framework import Box3D, Camera, Canvas, ControlEncoder, DepthRaster, SubjectAnnotation

WIDTH, HEIGHT = 48, 40
CANVAS = Canvas(width=WIDTH, height=HEIGHT, camera=Camera.from_fov_y(50, WIDTH, HEIGHT))
OFF_CENTRE = Canvas(width=WIDTH, height=HEIGHT, camera=Camera(fx=50, fy=40, cx=20.25, cy=23.5))


def annotation(**changes: object) -> SubjectAnnotation:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[10:20, 12:30] = True
    depth = np.where(mask, np.linspace(2, 3, WIDTH, dtype=np.float32), np.float32(np.nan))
    values = {"mask": mask, "depth": depth, "camera": CANVAS.camera, "box2d": (12, 10, 30, 20), "caption": "a cube"}
    return SubjectAnnotation(**{**values, "box3d": Box3D(center=(0, 0, 4), size=(1, 2, 1)), **changes})


def ray(canvas: Canvas, row: int, column: int) -> np.ndarray:
    camera = canvas.camera
    return np.array([(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy, 1.0])


def first_hit(box: Box3D, direction: np.ndarray) -> tuple[float | None, float]:
    """z of the first of twelve triangles on the ray (Cramer's rule), and how near the ray passes to an edge."""
    corners = box_corners(box).reshape(2, 2, 2, 3)
    hits, margin = [], np.inf
    for axis, side in product(range(3), range(2)):
        face = np.take(corners, side, axis=axis)
        origin, u, v = face[0, 0], face[1, 0] - face[0, 0], face[0, 1] - face[0, 0]
        system = np.stack([direction, -u, -v], axis=1)
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        z, a, b = np.linalg.solve(system, origin)
        margin = min(margin, *(abs(value) for value in (a, b, 1 - a, 1 - b)), abs(z - 1e-3))
        if 0 <= a <= 1 and 0 <= b <= 1 and z > 1e-3:
            hits.append(z)
    return (min(hits) if hits else None), margin


BOXES = st.builds(
    Box3DGeometry,
    center=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-0.5, 6)),
    size=st.tuples(*[st.floats(0.2, 3)] * 3),
    rotation=st.tuples(*[st.floats(-180, 180)] * 3),
)


@settings(max_examples=60, deadline=None)
@given(BOXES, st.sampled_from([CANVAS, OFF_CENTRE]), st.integers(0, 10**6))
def test_box_depth_is_an_independent_ray_hit(geometry: Box3DGeometry, canvas: Canvas, seed: int) -> None:
    try:
        layer = Box3DControl().encode(geometry, canvas)
        region, depth = layer.region, layer.depth
    except ValueError:
        region, depth = np.zeros(canvas.size_hw, np.bool_), np.zeros(canvas.size_hw, np.float32)
    rng = np.random.default_rng(seed)
    for _ in range(12):
        row, column = int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))
        z, margin = first_hit(geometry.box, ray(canvas, row, column))
        if margin > 1e-6:  # a ray through an edge may go either way
            assert region[row, column] == (z is not None)
            assert z is None or depth[row, column] == pytest.approx(z, rel=1e-5)


def convex_side(points: np.ndarray, pixel: np.ndarray) -> float:
    """How far a pixel lies outside the convex hull of points: the largest gap over many directions.

    Those across the line through each two points are among them, so that the distance of a pixel inside is exact.
    """
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    along = (points[:, None] - points[None])[~np.eye(len(points), dtype=bool)]
    across = along[:, ::-1] * (1, -1) / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    directions = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], axis=1), across])
    return float(((directions @ pixel) - (points @ directions.T).max(axis=0)).max())


@settings(max_examples=60, deadline=None)
@given(BOXES)
@example(Box3DGeometry(center=(0.0, 0.0, 3.1015625), size=(2.22265625, 2.0, 3.0), rotation=(61.0, -159.25, 0.5)))
def test_silhouette_and_projected_corners_agree(geometry: Box3DGeometry) -> None:
    corners = box_corners(geometry.box)
    assume(corners[:, 2].min() > 0.3)
    camera = CANVAS.camera
    points = corners[:, :2] / corners[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    try:
        region = Box3DControl().encode(geometry, CANVAS).region
    except ValueError:
        low, high = points.min(axis=0), points.max(axis=0)
        is_outside = (high < 0).any() or low[0] > WIDTH or low[1] > HEIGHT
        centres = np.argwhere(np.ones(CANVAS.size_hw))[:, ::-1] + 0.5
        assert is_outside or all(
            convex_side(points, centre) > -1e-6 for centre in centres[:: max(1, len(centres) // 200)]
        )
        return
    rows, columns = np.nonzero(region)
    centres = np.stack([columns, rows], axis=1) + 0.5
    assert (centres >= points.min(axis=0) - 1e-9).all() and (centres <= points.max(axis=0) + 1e-9).all()
    assert all(convex_side(points, centre) < 1e-6 for centre in centres[:: max(1, len(centres) // 50)])
    for row, column in ((10, 10), (20, 24), (30, 40)):
        if convex_side(points, np.array([column + 0.5, row + 0.5])) < -0.05:
            assert region[row, column]


def test_a_frontal_box_is_exact() -> None:
    canvas = Canvas(width=40, height=40, camera=Camera(fx=40, fy=40, cx=20, cy=20))
    layer = Box3DControl().encode(Box3DGeometry(center=(0, 0, 5), size=(2, 1, 2)), canvas)
    rows, columns = np.nonzero(layer.region)  # the front face at z = 4 spans 20 +- 10 by 20 +- 5
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 29, 15, 24)
    assert layer.region.sum() == 20 * 10 and (layer.depth[layer.region] == 4).all()


def test_rotation_is_rz_ry_rx() -> None:
    turned = rotation_matrix((90, 90, 0)) @ np.array([0, 1, 0])  # about x: to +z; then about y: to +x
    assert turned == pytest.approx([1, 0, 0], abs=1e-12)
    assert rotation_matrix((90, 0, 90)) @ np.array([0, 1, 0]) == pytest.approx([0, 0, 1], abs=1e-12)


def test_a_box_around_or_beside_the_camera() -> None:
    inside = Box3DControl().encode(Box3DGeometry(center=(0, 0, 0), size=(4, 4, 4)), CANVAS)
    assert inside.region.all() and inside.depth[20, 24] == pytest.approx(2)
    partly = Box3DControl().encode(Box3DGeometry(center=(0, 1.5, 0), size=(1, 1, 20)), CANVAS)
    assert partly.region[-1].any() and not partly.region[:20].any()
    with pytest.raises(ValueError, match="behind the camera"):
        Box3DControl().encode(Box3DGeometry(center=(0, 0, -3), size=(1, 1, 1)), CANVAS)
    with pytest.raises(ValueError, match="outside the image"):
        Box3DControl().encode(Box3DGeometry(center=(50, 0, 3), size=(1, 1, 1)), CANVAS)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.floats(-20, 50), st.floats(-20, 45), st.floats(0.01, 60), st.floats(0.01, 60)))
def test_a_pixel_belongs_to_a_2d_box_when_its_centre_does(xywh: tuple[float, float, float, float]) -> None:
    x0, y0, width, height = xywh
    x1, y1 = x0 + width, y0 + height
    xyxy = (x0, y0, x1, y1)
    rows, columns = np.indices(CANVAS.size_hw) + 0.5
    wanted = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
    if wanted.any():
        assert np.array_equal(Box2DControl().encode(Box2DGeometry(xyxy=xyxy), CANVAS).region, wanted)
    else:
        with pytest.raises(ValueError, match=r"outside the image|between pixel centres"):
            Box2DControl().encode(Box2DGeometry(xyxy=xyxy), CANVAS)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Box2DGeometry(xyxy=(5, 0, 5, 9)), "x1 greater than x0"),
        (lambda: Box3DGeometry(center=(0, 0, 1), size=(1, 0, 1)), "three positive extents"),
        (lambda: DepthGeometry(mask=None, depth=None, near=1.0), "near and far go together"),
        (lambda: DepthGeometry(mask=None, depth=None, near=3.0, far=2.0), "0 < near <= far"),
        (lambda: MaskConfig(dilate_fraction=(0.1, 0.0)), "dilate_fraction"),
        (lambda: Box3DConfig(aspect_jitter=-1.0), "aspect_jitter"),
    ],
)
def test_values_that_make_no_sense(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_mask_of_another_size_and_depth_that_is_not_usable() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        MaskControl().encode(MaskGeometry(file=np.ones((3, 3), np.bool_)), CANVAS)
    mask = annotation().mask
    for bad, kind in ((np.nan, "metric"), (0.0, "metric"), (-1.0, "disparity"), (np.inf, "disparity")):
        values = np.ones(CANVAS.size_hw, np.float32)
        values[0, 0] = bad  # outside the mask nothing is read
        geometry = DepthGeometry(mask=mask, depth=DepthRaster(values=values, kind=kind))
        assert DepthControl().encode(geometry, CANVAS).depth is not None
        values[10, 12] = bad
        with pytest.raises(ValueError, match=r"0\.6% of the mask"):
            DepthControl().encode(geometry, CANVAS)
    metric = DepthGeometry(
        mask=mask, depth=DepthRaster(values=np.ones(CANVAS.size_hw, np.float32), kind="metric"), near=1.0, far=2.0
    )
    with pytest.raises(ValueError, match="in metres already"):
        DepthControl().encode(metric, CANVAS)


ENCODERS = {spec.name: spec.load_factory()(spec.config()) for spec in sigma_register_controls()}


@pytest.mark.parametrize("name", ENCODERS)
def test_derived_geometry_encodes_over_the_subject_repeatably(name: str) -> None:
    encoder, subject = pickle.loads(pickle.dumps(ENCODERS[name])), annotation()
    assert isinstance(encoder, ControlEncoder)
    before = subject.mask.copy()
    first, second = (
        encoder.encode(encoder.derive(subject, CANVAS, np.random.default_rng(4)), CANVAS) for _ in range(2)
    )
    assert np.array_equal(first.region, second.region) and np.array_equal(subject.mask, before)
    assert (first.depth is None) == (second.depth is None)
    assert name == "box3d" or not (subject.mask & ~first.region)[11:19, 13:29].any()
    regions = {
        encoder.encode(encoder.derive(subject, CANVAS, np.random.default_rng(k)), CANVAS).region.sum()
        for k in range(20)
    }
    assert len(regions) > 1 or name in ("mask", "depth", "mesh")  # their radius stays below a pixel here


def test_without_augmentation_derive_is_exact() -> None:
    rng, subject = np.random.default_rng(0), annotation()
    still = (0.0, 0.0)
    mask = MaskControl(MaskConfig(dilate_fraction=still)).derive(subject, CANVAS, rng)
    assert np.array_equal(mask.file, subject.mask)
    box = Box2DControl(Box2DConfig(dilate_fraction=still, aspect_jitter=0)).derive(subject, CANVAS, rng)
    assert box.xyxy == subject.box2d
    box3d = Box3DControl(Box3DConfig(dilate_fraction=still, aspect_jitter=0)).derive(subject, CANVAS, rng)
    assert box3d.box == subject.box3d
    depth = DepthControl(DepthConfig(dilate_fraction=still)).derive(subject, CANVAS, rng)
    assert np.array_equal(depth.depth.values[subject.mask], subject.depth[subject.mask])


def test_augmentation_changes_the_layout_by_what_the_config_says() -> None:
    subject, wide = annotation(), (0.1, 0.1)
    rng = np.random.default_rng(0)
    mask = MaskControl(MaskConfig(dilate_fraction=wide)).derive(subject, CANVAS, rng).file
    assert np.flatnonzero(mask.any(axis=0)).tolist() == list(range(8, 34))  # 4 pixels on each side
    layer = DepthControl(DepthConfig(dilate_fraction=wide)).encode(
        DepthControl(DepthConfig(dilate_fraction=wide)).derive(subject, CANVAS, rng), CANVAS
    )
    assert np.array_equal(layer.region, mask) and (layer.depth[mask] >= 2).all() and (layer.depth[mask] <= 3).all()
    assert layer.depth[15, 9] == subject.depth[15, 12] and layer.depth[7, 20] == subject.depth[10, 20]
    box = Box2DControl(Box2DConfig(dilate_fraction=wide, aspect_jitter=0)).derive(subject, CANVAS, rng)
    assert box.xyxy == pytest.approx((8, 6, 34, 24))
    box3d = Box3DControl(Box3DConfig(dilate_fraction=wide, aspect_jitter=0)).derive(subject, CANVAS, rng)
    assert box3d.size[0] == pytest.approx(1 + 2 * 4 * 4 / CANVAS.camera.fy)


def test_derive_says_what_the_annotation_lacks() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no depth"):
        DepthControl().derive(annotation(depth=None), CANVAS, rng)
    with pytest.raises(ValueError, match="no 3D box"):
        Box3DControl().derive(annotation(box3d=None), CANVAS, rng)
