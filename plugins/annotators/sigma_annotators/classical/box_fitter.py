"""2D and oriented 3D boxes from masks and metric depth (section A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.classical.config import BoxFitterConfig
from sigma_annotators.classical.hidden_side import Sight
from sigma_annotators.classical.oriented_boxes import (
    Ground,
    find_ground,
    minimal_box,
    principal_box,
    upright_box,
    without_outliers,
)
from sigma_annotators.records import box_of, require
from sigma_framework import Camera, DataError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BoxFitter:
    """Adds ``boxes_xyxy`` around the masks, and ``boxes_3d`` (None for a subject with too few points).

    Boxes that a record has already are kept; a subject without one gets it.
    """

    config: BoxFitterConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """One batch; draws nothing from ``rng``, so that a box depends on its subject alone.

        Raises:
            DataError: the depth is relative: right up to a scale, so that no box has a size.
        """
        for number, record in enumerate(records):
            require(record, number, "box_fitter", ("masks", "depth", "camera"))
            masks = np.asarray(record["masks"], bool)
            given = list(record.get("boxes_3d") or [None] * len(masks))
            boxes = given if None not in given else self._fitted(record, number, masks, given)
            flat = record.get("boxes_xyxy")
            yield {
                **record,
                "boxes_xyxy": np.array([box_of(mask) for mask in masks]).reshape(-1, 4) if flat is None else flat,
                "boxes_3d": boxes,
                "per_subject": list(dict.fromkeys([*record.get("per_subject", ()), "boxes_3d"])),
                "counts": {"subjects without 3D box": sum(box is None for box in boxes)},
            }

    def _fitted(self, record: Mapping[str, Any], number: int, masks: Mask, given: Sequence[Any]) -> list[Any]:
        """The boxes that are there, and one for each subject that has none."""
        if record["depth"] is None or record.get("depth_kind", "metric") != "metric":
            name = record.get("key", f"record {number}")
            kind = "no" if record["depth"] is None else record["depth_kind"]
            raise DataError(f"{name}: box_fitter found {kind} depth, expected metric depth; use a metric estimator")
        camera = Camera(**record["camera"])
        points = unproject(np.asarray(record["depth"], np.float64), camera)
        ground = find_ground(points, masks) if self.config.method == "upright" else None
        pairs = zip(given, masks, strict=True)
        return [self._fit(points, mask, camera, ground) if box is None else box for box, mask in pairs]

    def _fit(self, points: Array, mask: Mask, camera: Camera, ground: Ground | None) -> dict[str, list[float]] | None:
        from scipy import ndimage

        config = self.config
        inner = ndimage.binary_erosion(mask, iterations=config.erosion) if config.erosion else mask
        cloud = points[inner & (points[..., 2] > 0)]
        if len(cloud) < config.min_points:
            return None
        cloud = without_outliers(cloud, config.neighbours, config.isolation)
        pixel = float(cloud[:, 2].mean()) / camera.fx
        if config.method == "upright" and ground is not None:
            sight = Sight(points[..., 2], camera, inner, mask)
            # Half a pixel lies between an outline's pixels and the outline; the completed side brings half of it back.
            box = upright_box(cloud, ground, sight, (config.erosion + 0.25) * pixel)
        else:
            box = principal_box(cloud) if config.method == "pca" else minimal_box(cloud)
            box = None if box is None else box.grown((config.erosion + 0.5) * pixel)
        return None if box is None else box.plain()


def unproject(depth: Array, camera: Camera) -> Array:
    """(H, W) metres along z -> (H, W, 3) points in camera coordinates; z is 0 where depth is unknown."""
    height, width = depth.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    known = np.where(np.isfinite(depth), depth, 0)
    return np.stack([(columns - camera.cx) / camera.fx * known, (rows - camera.cy) / camera.fy * known, known], axis=-1)
