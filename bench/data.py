"""Control images and shards: ``OMP_NUM_THREADS=1 python bench/data.py [--write docs/performance.md]``.

Process CPU time, both sides of each ratio interleaved in one process, the least of several rounds. ``plain`` is what
one would write first: whole-picture boolean indexing per subject. Both give the same image, which is checked.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import write_between

from sigma_datasources.sigma_set.config import SigmaSetConfig
from sigma_datasources.sigma_set.source import SigmaSetSource
from sigma_framework import Camera, Canvas, ControlLayer, ShardSet
from sigma_framework.conditioning import compose
from sigma_framework.dataset_build import record_of
from sigma_framework.shards import Encoding, decode_sample, encode_record, write_manifest, write_shard
from sigma_framework.testing import toy_example

SIDE, SUBJECTS = 1024, 10
SAMPLES, SAMPLE_SIDE, IDENTITY = 24, 512, 256
MARKS = ("<!-- data.py -->", "<!-- end of data.py -->")


def least(rounds: int, *works: Callable[[], Any]) -> list[float]:
    """Least CPU milliseconds of each, taken in turn."""
    times = [[0.0] * rounds for _ in works]
    for number in range(rounds):
        for place, work in enumerate(works):
            start = time.process_time()
            work()
            times[place][number] = (time.process_time() - start) * 1e3
    return [min(one) for one in times]


def discs(count: int, side: int) -> list[ControlLayer]:
    """Tilted discs that overlap a little, a twelfth of the image each, as subjects of a usual scene."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    layers = []
    for _ in range(count):
        y, x = rng.uniform(0.15, 0.85, 2) * side
        region = (rows - y) ** 2 + (columns - x) ** 2 < (0.163 * side) ** 2
        depth = rng.uniform(2, 6) + (columns - x + rows - y) * np.float32(0.3 / side)
        layers.append(ControlLayer(region=region, depth=np.where(region, depth, 0).astype(np.float32)))
    return layers


def plain(layers: Sequence[ControlLayer]) -> NDArray[np.uint8]:
    """``I^C`` by boolean indexing of whole pictures."""
    image = np.zeros((*layers[0].region.shape, 3), np.uint8)
    for number, layer in enumerate(layers):
        image[layer.region, 0] = 10 * (number + 1)
    for number, layer in reversed(list(enumerate(layers))):
        image[layer.region, 1] = 10 * (number + 1)
    if layers[0].depth is not None:
        draw_depth(image, layers)
    return image


def draw_depth(image: NDArray[np.uint8], layers: Sequence[ControlLayer]) -> None:
    """Channel 2: what is nearest, 26 to 255."""
    nearest = np.full(image.shape[:2], np.inf, np.float32)
    for layer in layers:
        assert layer.depth is not None
        front = layer.region & (layer.depth < nearest)
        nearest[front] = layer.depth[front]
    seen = np.isfinite(nearest)
    inverse = 1 / nearest[seen]
    low, high = inverse.min(), inverse.max()
    image[seen, 2] = 26 + np.rint(229 * (inverse - low) / (high - low))


def control_image() -> list[str]:
    """The ratios for one scene, by masks alone and with depth."""
    canvas = Canvas(width=SIDE, height=SIDE, camera=Camera.from_fov_y(50, SIDE, SIDE))
    names = [f"subject {number}" for number in range(SUBJECTS)]
    deep = discs(SUBJECTS, SIDE)
    rows = []
    for kind, layers in (("masks", [replace(layer, depth=None) for layer in deep]), ("masks and depth", deep)):
        made, expected = compose(layers, names, canvas).spatial, plain(layers)
        difference = np.abs(made.astype(int) - expected).max()
        assert difference <= 1, f"the two images differ by {difference}"  # one level of depth, where rounding ties
        ours, theirs = least(9, lambda few=layers: compose(few, names, canvas), lambda few=layers: plain(few))
        rows.append(
            f"control image of {kind}, N = {SUBJECTS}, {SIDE} x {SIDE}: plain NumPy / ours | {theirs / ours:.1f}"
        )
    return [f"{rows[0]} | at least 5", f"{rows[1]} | |"]


def write_set(folder: Path) -> Path:
    """One shard of scenes with 3 subjects, JPEG targets and WebP identities."""
    encoding, samples = Encoding(target="jpg", identities="webp"), []
    for number in range(SAMPLES):
        record = record_of(toy_example(3, seed=number, size_hw=(SAMPLE_SIDE, SAMPLE_SIDE), identity_size=IDENTITY))
        samples.append(encode_record(record, f"{number:08d}", encoding))
    write_manifest(folder, [write_shard(folder, "00000.tar", samples)], {"read": SAMPLES})
    return folder


def sequential(shard: Path) -> int:
    """Reads and decodes the tar from front to back, without index and without hashes."""
    members: dict[str, dict[str, tuple[str, bytes]]] = {}
    with tarfile.open(shard) as file:
        for member in file:
            key, part, *suffix = member.name.split(".")
            content = file.extractfile(member)
            assert content is not None
            members.setdefault(key, {})[part] = (suffix[0] if suffix else part, content.read())
    return sum(len(decode_sample(parts, key).example().subjects) for key, parts in members.items())


def reading() -> list[str]:
    """Ratios and rates of one shard."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_set(Path(folder))
        shards, source = ShardSet(path), SigmaSetSource(SigmaSetConfig(path=str(path)))
        order = np.random.default_rng(0).permutation(SAMPLES).tolist()
        whole, straight, shuffled, counts = least(
            5,
            lambda: sequential(path / "00000.tar"),
            lambda: [source[k] for k in range(SAMPLES)],
            lambda: [source[k] for k in order],
            lambda: ShardSet(path).subject_counts,
        )
        assert len(shards) == SAMPLES
    about = f"{SAMPLE_SIDE} pixels, 3 identities of {IDENTITY}"
    return [
        f"random access, hashes checked / whole tar in order, unchecked ({about}) | {shuffled / whole:.2f} | |",
        f"random access / in order, both checked | {shuffled / straight:.2f} | |",
        f"subject counts of a shard / reading it | {counts / straight:.4f} | |",
        f"samples per second and core, random access | {1e3 * SAMPLES / shuffled:.0f} | |",
    ]


def main() -> None:
    """Prints the table, or puts it into a page."""
    rows = [f"| {row.removesuffix(' |')} |" for row in (*control_image(), *reading())]
    table = "\n".join(["| | measured | goal |", "|---|---|---|", *rows])
    if "--write" not in sys.argv:
        print(table)
        return
    write_between(Path(sys.argv[sys.argv.index("--write") + 1]), MARKS, table)


if __name__ == "__main__":
    main()
