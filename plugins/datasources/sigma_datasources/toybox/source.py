"""The data source ``toybox``: example i is drawn from (seed, split, i) alone."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.annotators import oracle_depth
from sigma_datasources.toybox.cache import ExampleCache
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.portrait import portray
from sigma_datasources.toybox.render import paint
from sigma_datasources.toybox.scenery import Scenery, draw_scenery
from sigma_framework import Example, SubjectAnnotation

_SPLIT_STREAM = {"train": 0, "test": 1}
_COUNT_STREAM = 2**62
"""Beside all example indices: the stream that draws how many subjects each example has."""
_HEAP_BYTES = 16 * 2**20
"""Well above the few megabytes that one picture takes; glibc's own limit is 32."""


def generator_of(seed: int, split: str, stream: int) -> np.random.Generator:
    """The generator of one example (``stream`` is its index) or of one purpose."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, _SPLIT_STREAM[split], stream))))


class ToyboxSource:
    """Procedural scenes with exact annotations; satisfies ``DataSource``."""

    def __init__(self, config: ToyboxConfig) -> None:
        self.config = config
        _keep_heap()
        rng = generator_of(config.seed, config.split, _COUNT_STREAM)
        self._counts = rng.integers(config.min_subjects, config.max_subjects + 1, size=config.count)
        self._counts.flags.writeable = False
        self._cache = None if config.cache is None else ExampleCache(config)

    def __reduce__(self) -> tuple[type[ToyboxSource], tuple[ToyboxConfig]]:
        return ToyboxSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) number of subjects of each example."""
        return self._counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) height and width of each example, pixels."""
        return np.broadcast_to(np.array(self.config.size_hw, np.int64), (self.config.count, 2))

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> Example:
        """One example; a negative index counts from the end.

        Raises:
            IndexError: there is no such example.
        """
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"toybox has {len(self)} examples, asked for index {at}")
        at %= len(self)
        if self._cache is None:
            return self.render(at)
        example = self._cache.load(at)
        if example is None:
            example = self.render(at)
            self._cache.store(at, example)
        return example

    def whole_depth(self, index: int) -> NDArray[np.float32]:
        """(H, W) metres of subjects and ground; 0 beyond the ground."""
        return oracle_depth(draw_scenery(self._generator(index), int(self._counts[index]), self.config))

    def _generator(self, index: int) -> np.random.Generator:
        return generator_of(self.config.seed, self.config.split, index)

    def render(self, index: int) -> Example:
        """Draws and renders example ``index``, whatever the cache holds."""
        config = self.config
        rng = self._generator(index)
        scenery = draw_scenery(rng, int(self._counts[index]), config)
        target = paint(scenery)
        identities = tuple(
            portray(rng, look, pose.yaw - math.atan2(*pose.foot), scenery.view.pitch, config.identity_size)
            for look, pose in zip(scenery.looks, scenery.poses, strict=True)
        )
        return Example(
            target=target,
            identities=identities,
            subjects=annotate(scenery),
            prompt_full=vocabulary.describe_scene(
                scenery.place.prompt, [look.caption for look in scenery.looks], int(rng.integers(3))
            ),
            prompt_background=scenery.place.prompt,
            key=f"toybox-{config.split}-{config.seed}-{index}",
        )


def _keep_heap() -> None:
    """Makes rendering two to three times as fast under glibc, and does nothing elsewhere.

    glibc returns freed memory to the system above a threshold, and every temporary array then costs page faults
    anew; freeing one large block, whose pages are never touched, raises the threshold for the process (mallopt(3)).
    """
    np.empty(_HEAP_BYTES, np.uint8)


def annotate(scenery: Scenery) -> tuple[SubjectAnnotation, ...]:
    """Exact ground truth of every subject, in the scene's order."""
    annotations = []
    for k, (look, pose) in enumerate(zip(scenery.looks, scenery.poses, strict=True)):
        mask = scenery.seen.owner == k
        annotations.append(
            SubjectAnnotation(
                mask=mask,
                depth=np.where(mask, scenery.seen.depth, np.float32(0)),
                camera=scenery.view.camera,
                box2d=box_of(mask),
                box3d=pose.box3d(),
                caption=look.caption,
            )
        )
    return tuple(annotations)


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a mask with pixels, right and bottom exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
