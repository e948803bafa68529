"""A scene's whole description, drawn from one generator until every subject can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.ground import Backdrop, draw_backdrop
from sigma_datasources.toybox.layout import Pose, View, arrange, draw_view
from sigma_datasources.toybox.looks import Look, draw_looks
from sigma_datasources.toybox.place import Place, draw_place
from sigma_datasources.toybox.visibility import Visibility, see
from sigma_framework import DataError

SMALLEST_VISIBLE_SHARE = 0.6
"""Of a subject's silhouette."""
SMALLEST_VISIBLE_PIXELS = (150, 80)
"""Visible pixels in a picture of 128 x 128, with up to six subjects and with more."""
_ATTEMPTS = 60
_SHRINK = 0.985
"""Every further attempt draws the subjects this much smaller."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """Everything a picture is painted from."""

    place: Place
    """Ground, backdrop, light."""
    view: View
    """Camera."""
    backdrop: Backdrop
    """Where the ground ends."""
    looks: tuple[Look, ...]
    """The subjects' identities."""
    poses: tuple[Pose, ...]
    """How they stand, same order."""
    seen: Visibility
    """Which pixels show which of them."""


def smallest_pixels(count: int, height: int, width: int) -> float:
    """Fewest visible pixels of a subject among ``count`` in a picture of this size."""
    return SMALLEST_VISIBLE_PIXELS[0 if count <= 6 else 1] * min(height, width) ** 2 / 128**2


def draw_scenery(rng: np.random.Generator, count: int, config: ToyboxConfig) -> Scenery:
    """A scene of ``count`` subjects in which each keeps enough of its silhouette.

    Raises:
        DataError: no arrangement was found; not known to happen.
    """
    height, width = config.size_hw
    looks = draw_looks(rng, count, config)
    place = draw_place(rng)
    for attempt in range(_ATTEMPTS):
        view = draw_view(rng, count, width, height)
        poses = arrange(rng, looks, view, _SHRINK**attempt)
        if poses is None:
            continue
        seen = see(looks, poses, view)
        enough = seen.visible >= np.maximum(SMALLEST_VISIBLE_SHARE * seen.full, smallest_pixels(count, height, width))
        if enough.all():
            return Scenery(place, view, draw_backdrop(rng, view, poses), looks, poses, seen)
    raise DataError(f"toybox: {count} subjects did not fit into {width} x {height} pixels in {_ATTEMPTS} attempts")
