"""Which subject every pixel's centre shows, and how far away it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.layout import Pose, View
from sigma_datasources.toybox.looks import Look
from sigma_datasources.toybox.solids import SOLIDS

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Visibility:
    """Which subject each pixel's centre shows."""

    owner: NDArray[np.int16]
    """(H, W) subject index, -1 where there is none."""
    depth: Array
    """(H, W) metres along z of the nearest subject, inf where there is none."""
    full: NDArray[np.int64]
    """(N,) pixels of each silhouette, hidden ones too."""
    visible: NDArray[np.int64]
    """(N,) visible pixels."""


def own_frame(look: Look, pose: Pose) -> tuple[Array, Array]:
    """(3, 3) camera coordinates -> the solid's frame before proportions, and (3,) the camera's place there."""
    to_own = pose.rotation.T / (pose.scale * np.asarray(look.proportions))[:, None]
    return to_own.astype(np.float32), (-to_own @ pose.centre).astype(np.float32)


def pixel_window(pose: Pose, view: View) -> tuple[int, int, int, int]:
    """First column, first row, end column, end row of the pixels that a subject can touch."""
    x0, y0, x1, y1 = pose.bounds
    return max(0, int(x0) - 1), max(0, int(y0) - 1), min(view.width, int(x1) + 2), min(view.height, int(y1) + 2)


def see(looks: Sequence[Look], poses: Sequence[Pose], view: View) -> Visibility:
    """One ray through every pixel's centre; depth is the ray parameter because directions have z = 1."""
    owner = np.full((view.height, view.width), -1, np.int16)
    depth = np.full((view.height, view.width), np.inf, np.float32)
    full = np.zeros(len(looks), np.int64)
    camera = view.camera
    for k, (look, pose) in enumerate(zip(looks, poses, strict=True)):
        x0, y0, x1, y1 = pixel_window(pose, view)
        to_own, origin = own_frame(look, pose)
        x = (np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - camera.cx)) * np.float32(1 / camera.fx)
        y = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - camera.cy)) * np.float32(1 / camera.fy)
        directions = (to_own[:, 1:2] * y + to_own[:, 2:3])[:, :, None] + (to_own[:, :1] * x)[:, None, :]
        hit = SOLIDS[look.solid].enter(origin, directions.reshape(3, -1)).reshape(y1 - y0, x1 - x0)
        full[k] = np.isfinite(hit).sum()
        nearer = hit < depth[y0:y1, x0:x1]
        owner[y0:y1, x0:x1][nearer] = k
        depth[y0:y1, x0:x1][nearer] = hit[nearer]
    visible = np.bincount(owner.ravel() + 1, minlength=len(looks) + 1)[1:]
    return Visibility(owner, depth, full, visible)
