"""How far back the side of a subject lies that the camera cannot see.

The hidden side is taken for the visible one turned by 180 degrees about an upright axis. Where that axis stands is
bounded by the picture: a hidden side too far back would show above or beside the subject. The farthest place at which
it does not is exact for point-symmetric convex solids seen from above: their far rim is part of their outline. (The
outermost lines of sight alone say too little: depth at a round outline changes so fast that half a pixel misses a
sixth of the solid.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_framework import Camera

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_STEPS = 41
_SHOWN = 0.02
"""Share of hidden points that may show: the outline's own pixels, rounded."""
_BEHIND = 1.02
"""What is seen is behind a point when it is farther than this many times its depth."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What the picture shows."""

    depth: Array
    """(H, W) metres along z, 0 where unknown."""
    camera: Camera
    """Of the picture."""
    mask: Mask
    """(H, W) the pixels whose points are asked about."""
    whole: Mask
    """(H, W) all of the subject's pixels."""

    def shown(self, points: Array) -> float:
        """Share of (P, 3) points that would be seen outside the mask, in front of what is seen there."""
        height, width = self.depth.shape
        z = np.maximum(points[:, 2], 1e-6)
        columns = np.floor(self.camera.fx * points[:, 0] / z + self.camera.cx).astype(np.int64)
        rows = np.floor(self.camera.fy * points[:, 1] / z + self.camera.cy).astype(np.int64)
        inside = (columns >= 0) & (rows >= 0) & (columns < width) & (rows < height)
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
        seen = self.depth[rows, columns]
        in_front = (seen <= 0) | (seen > _BEHIND * points[:, 2]) | self.whole[rows, columns]
        return float(np.mean(inside & ~self.mask[rows, columns] & in_front))


def farthest_centre(flat: Array, heights: Array, plan: Array, down: Array, sight: Sight) -> Array:
    """(2,) the place of the upright axis, in the plane of the ground.

    Args:
        flat: (P, 2) visible points along the rows of ``plan``.
        heights: (P,) along ``down``.
        plan: (2, 3) unit vectors in the ground: right and ahead.
        down: (3,) unit vector.
        sight: what the picture shows.
    """
    start = _nearest_centre(flat)
    # Seen from the height of the ground nothing bounds a hidden side: then the subject is not much deeper than wide.
    reach = 1 + float(np.ptp(flat[:, 0])) / float(np.linalg.norm(start))
    found = start
    for factor in np.linspace(1, reach, _STEPS):
        turned = (2 * factor * start - flat) @ plan + heights[:, None] * down
        if sight.shown(turned) > _SHOWN:
            break
        found = factor * start
    return np.asarray(found)


def _nearest_centre(flat: Array) -> Array:
    """Midway between the points that the outermost lines of sight touch, and no nearer than what is seen behind."""
    order = np.argsort(np.arctan2(flat[:, 0], flat[:, 1]))
    few = max(1, len(flat) // 100)
    centre = (flat[order[:few]].mean(axis=0) + flat[order[-few:]].mean(axis=0)) / 2
    middle = (flat[:, 1].min() + flat[:, 1].max()) / 2
    return np.asarray(centre * max(1.0, middle / max(centre[1], 1e-6)))
