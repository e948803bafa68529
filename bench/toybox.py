"""Time to render an example of ``toybox``, by number of subjects: ``OMP_NUM_THREADS=1 python bench/toybox.py``.

Process CPU time, median over 50 scenes of 128 x 128 pixels with identity images of 64 x 64. ``scene`` is everything
but the identity images; the target is 8 ms for four subjects and 1.5 ms per identity image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.portrait import portray
from sigma_datasources.toybox.render import paint
from sigma_datasources.toybox.scenery import draw_scenery
from sigma_datasources.toybox.source import ToyboxSource, annotate, generator_of

SCENES = 50
SUBJECTS = (1, 4, 10)


def milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of one call, and what it returned."""
    start = time.process_time()
    value = work()
    return (time.process_time() - start) * 1e3, value


def measure(count: int) -> tuple[float, float, float]:
    """Median milliseconds of a scene, of one identity image, and of a whole example with ``count`` subjects."""
    source = ToyboxSource(ToyboxConfig(count=SCENES, min_subjects=count, max_subjects=count))
    source.render(0)
    scene, identity, whole = np.median(np.array([measure_one(source, k) for k in range(SCENES)]), axis=0).tolist()
    return scene, identity, whole


def measure_one(source: ToyboxSource, index: int) -> tuple[float, float, float]:
    """Milliseconds of one scene, its first identity image, and the whole example."""
    config, count = source.config, int(source.subject_counts[index])
    rng = generator_of(config.seed, config.split, index)
    drawn, scenery = milliseconds(lambda: draw_scenery(rng, count, config))
    painted, _ = milliseconds(lambda: (paint(scenery), annotate(scenery)))
    look, pitch = scenery.looks[0], scenery.view.pitch
    identity, _ = milliseconds(lambda: portray(rng, look, 0.0, pitch, config.identity_size))
    whole, _ = milliseconds(lambda: source.render(index))
    return drawn + painted, identity, whole


def main() -> None:
    """Prints the table."""
    write = sys.stdout.write
    write(f"CPU milliseconds, median of {SCENES}\n{'subjects':>8}  {'scene':>7}  {'identity':>8}  {'example':>7}\n")
    for count in SUBJECTS:
        scene, identity, whole = measure(count)
        write(f"{count:8d}  {scene:7.2f}  {identity:8.2f}  {whole:7.2f}\n")


if __name__ == "__main__":
    main()
