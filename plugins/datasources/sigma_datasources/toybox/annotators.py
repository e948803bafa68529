"""The toybox as stages of a build: a text-to-image model, a reposer and a depth oracle that need no weights.

A record keeps what its picture was drawn from under ``toybox``; ``subject_numbers`` says which of the drawn subjects
each subject of the record is, also after a filter took some away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.annotator_config import ToyboxImageConfig, ToyboxOracleDepthConfig, ToyboxReposerConfig
from sigma_datasources.toybox.portrait import portray
from sigma_datasources.toybox.render import paint
from sigma_datasources.toybox.scenery import Scenery
from sigma_datasources.toybox.told_scenery import scenery_of
from sigma_framework import DataError


@dataclass(frozen=True)
class ToyboxImage:
    """Draws ``target`` from ``captions`` and ``prompt_background``."""

    config: ToyboxImageConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """One picture per record.

        Raises:
            DataError: a caption that the toybox cannot draw.
        """
        for number, record in enumerate(records):
            _require(record, number, "toybox_image", "captions", "prompt_background")
            told = {
                "seed": int(rng.integers(2**62)),
                "captions": list(record["captions"]),
                "background": record["prompt_background"],
                "size": self.config.image_size,
            }
            yield {
                **record,
                "target": paint(scenery_of(told)),
                "toybox": told,
                "subject_numbers": list(range(len(told["captions"]))),
                "per_subject": [*record.get("per_subject", ()), "subject_numbers"],
                "provenance": {**record.get("provenance", {}), "source": "toybox"},
                "licence": "Apache-2.0",
            }


@dataclass(frozen=True)
class ToyboxReposer:
    """Draws ``identities``: each subject alone on white, in another pose and light."""

    config: ToyboxReposerConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """One identity picture per subject of each record."""
        for number, record in enumerate(records):
            _require(record, number, "toybox_reposer", "toybox", "subject_numbers")
            scenery = scenery_of(record["toybox"])
            identities = []
            for k in record["subject_numbers"]:
                look, pose = scenery.looks[k], scenery.poses[k]
                turn = pose.yaw - math.atan2(*pose.foot)
                identities.append(portray(rng, look, turn, scenery.view.pitch, self.config.identity_size))
            per_subject = list(dict.fromkeys([*record.get("per_subject", ()), "identities"]))
            yield {**record, "identities": identities, "per_subject": per_subject}


@dataclass(frozen=True)
class ToyboxOracleDepth:
    """Reads ``depth`` and ``camera`` off the world itself: subjects and ground, metres along z; 0 beyond the ground."""

    config: ToyboxOracleDepthConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Draws nothing from ``rng``."""
        for number, record in enumerate(records):
            _require(record, number, "toybox_oracle_depth", "toybox")
            scenery = scenery_of(record["toybox"])
            camera = scenery.view.camera
            yield {
                **record,
                "depth": oracle_depth(scenery),
                "depth_kind": "metric",
                "camera": {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy")},
            }


def oracle_depth(scenery: Scenery) -> NDArray[np.float32]:
    """(H, W) metres of the first surface that each pixel's ray meets."""
    view = scenery.view
    rows = np.arange(view.height) + 0.5
    slope = (rows - view.camera.cy) / view.camera.fy
    sink = slope * math.cos(view.pitch) + math.sin(view.pitch)  # how fast a ray falls, per metre of z
    reach = 25 * view.altitude  # farther ground is as good as none
    ground = np.where(sink > view.altitude / reach, view.altitude / np.maximum(sink, 1e-9), 0)
    depth = np.where(np.isfinite(scenery.seen.depth), scenery.seen.depth, ground[:, None])
    return depth.astype(np.float32)


def _require(record: Mapping[str, Any], number: int, annotator: str, *keys: str) -> None:
    if missing := [key for key in keys if key not in record]:
        name = record.get("key", f"record {number}")
        raise DataError(f"{name}: {annotator} needs {', '.join(missing)}; put the stage that makes them before it")
