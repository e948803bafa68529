"""Ray hits and normals of every solid against a slow reference that only knows what is inside."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sigma_datasources.toybox.solids import SOLIDS

# Each formula is written from the solid's definition, not from the renderer: points (3, P) -> inside (P,).
HEX = math.sqrt(3) / 2
INSIDE = {
    "cube": lambda x, y, z: (abs(x) <= 1) & (abs(y) <= 1) & (abs(z) <= 1),
    "sphere": lambda x, y, z: x**2 + y**2 + z**2 <= 1,
    "cylinder": lambda x, y, z: (x**2 + z**2 <= 1) & (abs(y) <= 1),
    "cone": lambda x, y, z: (np.hypot(x, z) <= (y + 1) / 2) & (y <= 1),
    "pyramid": lambda x, y, z: (np.maximum(abs(x), abs(z)) <= (y + 1) / 2) & (y <= 1),
    "prism": lambda x, y, z: (abs(x) <= (y + 1) / 2) & (y <= 1) & (abs(z) <= 1),
    "octahedron": lambda x, y, z: abs(x) + abs(y) + abs(z) <= 1,
    "capsule": lambda x, y, z: x**2 + z**2 + np.maximum(abs(y) - 0.8, 0) ** 2 <= 1,
    "hexagon": lambda x, y, z: (abs(z) <= HEX) & (abs(x) * HEX + abs(z) / 2 <= HEX) & (abs(y) <= 1),
    "frustum": lambda x, y, z: (np.maximum(abs(x), abs(z)) <= 0.75 + y / 4) & (abs(y) <= 1),
    "wedge": lambda x, y, z: (x + y >= 0) & (x <= 1) & (y <= 1) & (abs(z) <= 1),
    "dome": lambda x, y, z: (x**2 + (y - 0.5) ** 2 + z**2 <= 1) & (y <= 0.5),
}
ORIGINS = [(0.3, -3.0, -4.0), (-3.5, -0.4, -2.5), (0.2, -5.0, 0.4), (0.0, 0.1, -4.0)]


def rays(origin: tuple[float, float, float], count: int) -> np.ndarray:
    """Directions (3, count) with unit length, most of which pass near the solid."""
    rng = np.random.default_rng(7)
    targets = rng.uniform(-1.4, 1.4, (3, count))
    directions = targets - np.asarray(origin)[:, None]
    return directions / np.linalg.norm(directions, axis=0)


def first_inside(name: str, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Marches in steps of 2 mm, then halves the step in which the ray comes inside; inf for a miss."""
    steps = np.arange(1.0, 8.5, 0.002)
    found = np.full(directions.shape[1], np.inf)
    for ray, direction in enumerate(directions.T):
        inside = INSIDE[name](*(origin[:, None] + direction[:, None] * steps))
        if not inside.any():
            continue
        high = steps[np.argmax(inside)]
        low = high - 0.002
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if INSIDE[name](*(origin + direction * middle)) else (middle, high)
        found[ray] = high
    return found


@pytest.mark.parametrize("name", sorted(SOLIDS))
@pytest.mark.parametrize("origin", ORIGINS)
def test_rays_enter_where_the_definition_begins(name, origin):
    directions = rays(origin, 150)
    expected = first_inside(name, np.array(origin), directions)
    found = SOLIDS[name].enter(np.array(origin, np.float32), directions.astype(np.float32))
    both = np.isfinite(expected) & np.isfinite(found)
    # A march in steps may miss what a ray only grazes, and rounding may decide there.
    assert (np.isfinite(expected) != np.isfinite(found)).mean() <= 0.02
    assert both.sum() > 20
    np.testing.assert_allclose(found[both], expected[both], atol=2e-3)
    assert np.median(np.abs(found[both] - expected[both])) < 1e-5


@pytest.mark.parametrize("name", sorted(SOLIDS))
def test_normals_point_out_of_the_surface(name):
    solid = SOLIDS[name]
    for origin in ORIGINS:
        directions = rays(origin, 200)
        hit = solid.enter(np.array(origin, np.float32), directions.astype(np.float32))
        shown = np.isfinite(hit)
        points = np.array(origin)[:, None] + directions[:, shown] * hit[shown]
        normals = np.asarray(solid.normal(points.astype(np.float32)), np.float64)
        normals /= np.linalg.norm(normals, axis=0)
        inside, outside = (INSIDE[name](*(points + side * 4e-3 * normals)) for side in (-1, 1))
        assert not outside.any()
        assert inside.mean() > 0.97  # thin parts: an edge, an apex
        assert ((normals * directions[:, shown]).sum(axis=0) < 1e-3).all()


@pytest.mark.parametrize("name", sorted(SOLIDS))
def test_extents_are_the_exact_bounding_box_and_the_cloud_encloses_the_solid(name):
    solid = SOLIDS[name]
    grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 81)] * 3, indexing="ij")).reshape(3, -1)
    points = grid[:, INSIDE[name](*(grid * 0.9999))]
    np.testing.assert_allclose(np.abs(points).max(axis=1), solid.extents, atol=0.051)
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach_cloud, reach = (solid.cloud @ directions.T).max(axis=0), (directions @ points).max(axis=1)
    assert (reach_cloud >= reach - 1e-3).all()
    assert (reach_cloud <= reach * 1.1 + 0.06).all()
