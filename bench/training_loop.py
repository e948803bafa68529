"""What the training loop itself costs, and what equal shapes and the cache save: ``python bench/training_loop.py``.

* loop: CPU time per step of Lightning with our hooks over a bare loop, with an empty training step (at most 1.5 ms).
* balance: slowest of eight processes over their mean, in tokens, in random order and as planned (at most 1.02).
* padding: examples padded to ten subjects against each at its own length (at least 1.5x), on blocks with the paper's
  proportion of attention to linear layers: an eighth of the tokens and of the width.
* cache: a pass over examples of the embedded model with all encodings on the disk against one that encodes.
* loader: samples a second and core at full size, 1024 pixels and ten identities of 512 (at least 6), and of their
  latents from the disk (at least 100).

Names choose some of them. One process, one thread, process CPU time, so that other work on the machine does not count;
both sides of a ratio take turns in one run.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigma_datasources.sigma_set.config import SigmaSetConfig
from sigma_datasources.sigma_set.source import SigmaSetSource
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Example, TextTokens, Tokens
from sigma_framework.dataset_build import record_of
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe import check_recipe, load_recipe
from sigma_framework.recipe.training_schema import OptimizerBlock, TrainBlock
from sigma_framework.shards import Encoding, encode_record, write_manifest, write_shard
from sigma_framework.testing import ToySource, toy_example
from sigma_framework.training.adapter_objective import AdapterObjective
from sigma_framework.training.curriculum import StagePlan, TokenBudget, plan_batches
from sigma_framework.training.data_module import PlannedBatches
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.launch import objective_of
from sigma_framework.training.optimizers import build_optimizer
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun
from sigma_framework.types import RgbImage

RANKS = 8
CURRICULUM = {(1, 4): 3 / 7, (3, 10): 2 / 7, (5, 10): 2 / 7}
"""The paper's stages: fewest and most subjects, share of the steps."""
RECIPE = Path(__file__).parents[1] / "recipes" / "curriculum.yaml"
OPTIMIZER = OptimizerBlock(type="adamw", lr=1e-3)


class Empty:
    """An objective that costs next to nothing."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(4))

    def trainable_parameters(self) -> Mapping[str, torch.nn.Parameter]:
        return {"weight": self.weight}

    def modules(self) -> Sequence[torch.nn.Module]:
        return [torch.nn.ParameterList([self.weight])]

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> torch.Tensor:
        return ((self.weight - 1) ** 2).mean().expand(len(examples))

    def pictures(self, examples: Sequence[Example], seed: int) -> list[list[RgbImage]]:
        return [[example.target] for example in examples]

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Shapes:
    """A source of which only the shapes are read: 3 to 10 subjects."""

    length: int = 8000

    @property
    def subject_counts(self) -> np.ndarray:
        return 3 + np.random.default_rng(0).integers(0, 8, self.length)

    @property
    def sizes(self) -> np.ndarray:
        return np.full((self.length, 2), 1024)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        raise NotImplementedError("planning reads no pixels")


def empty_run(steps: int) -> float:
    """CPU seconds of a run of empty steps: Lightning, our hooks and all records."""
    with tempfile.TemporaryDirectory() as name:
        sources = {"toy": ToySource(length=60, size_hw=(32, 32), identity_size=16)}
        stage = StagePlan(name="s", steps=steps, min_subjects=1, max_subjects=None, sources=("toy",))
        run = TrainingRun(
            objective=Empty(),
            sources=sources,
            plan=plan_batches([stage], sources, {"toy": 1.0}, 1, 0, 1),
            folder=Path(name),
            weights_folder=Path(name) / "adapter",
            recipe_yaml="task: train\n",
            options=TrainBlock(optimizer=OPTIMIZER, batch_size=1, checkpoint_every=10**6, threads=1, grid_scenes=1),
            hand_overs=("keep",),
            resume_line="",
        )
        start = time.process_time()
        run_training(run, Silent())
        return time.process_time() - start


def bare_loop(steps: int) -> float:
    """CPU seconds of the same steps in a loop of a few lines."""
    source, objective = ToySource(length=60, size_hw=(32, 32), identity_size=16), Empty()
    optimizer = build_optimizer(OPTIMIZER, {"weight": objective.weight})
    start = time.process_time()
    for step in range(steps):
        optimizer.zero_grad()
        loss = objective.loss([source[step % 45]], [torch.Generator().manual_seed(step)]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([objective.weight], 0.5)
        optimizer.step()
    return time.process_time() - start


def loop() -> str:
    """The start and the end of a run do not count: a short run is taken from a long one."""
    few, many = 10, 210
    empty_run(few)
    ours, bare = [], []
    for _ in range(3):
        ours.append(empty_run(many) - empty_run(few))
        bare.append(bare_loop(many) - bare_loop(few))
    mine, plain = (min(one) / (many - few) * 1e3 for one in (ours, bare))
    return f"bare loop {plain:.2f} ms a step, Lightning with our hooks {mine:.2f} ms: {mine - plain:.2f} ms more"


def balance() -> str:
    """Mean over steps of the largest of eight processes' tokens over their mean."""
    source, budget = Shapes(), TokenBudget(tokens=RANKS * 20000, identity_size=512, pixels_per_token=16)
    tokens = np.array([budget.example(int(count), 1024, 1024) for count in source.subject_counts])
    drawn = np.random.default_rng(1).permutation(tokens)[: 900 * RANKS].reshape(-1, RANKS)
    stage = StagePlan(name="s", steps=900, min_subjects=3, max_subjects=None, sources=("a",))
    plan = plan_batches([stage], {"a": source}, {"a": 1.0}, RANKS, 0, 8, budget)
    ratios = []
    for batches in zip(*(PlannedBatches(plan, 0, rank, RANKS) for rank in range(RANKS)), strict=True):
        work = [tokens[[key.index for key in batch]].sum() for batch in batches]
        ratios.append(max(work) / np.mean(work))
    random_order = np.mean(drawn.max(axis=1) / drawn.mean(axis=1))
    return (
        f"slowest of {RANKS} processes over their mean: random order {random_order:.3f}, planned {np.mean(ratios):.3f}"
    )


def padding() -> str:
    """Forward and backward of one block of an eighth of the size; padded tokens need a mask to count for nothing."""
    width, heads = 384, 4
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
    network = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).to(torch.bfloat16)
    lengths = {subjects: (512 + 2 * 4096 + subjects * 1024) // 8 for subjects in range(1, 11)}

    def seconds(length: int, filled: int) -> float:
        tokens = torch.randn(1, length, width, dtype=torch.bfloat16, requires_grad=True)
        empty = torch.arange(length)[None] >= filled if length > filled else None
        start = time.process_time()
        network(tokens, src_key_padding_mask=empty)[:, :filled].float().square().mean().backward()
        return time.process_time() - start

    seconds(lengths[10], lengths[10])
    own = {n: min(seconds(length, length) for _ in range(2)) for n, length in lengths.items()}
    padded = min(seconds(lengths[10], lengths[6]) for _ in range(3))
    told = []
    for name, share in (("3 to 10 subjects", {(3, 10): 1.0}), ("the curriculum", CURRICULUM)):
        exact = sum(part * np.mean([own[n] for n in range(low, high + 1)]) for (low, high), part in share.items())
        told.append(f"{name} {padded / exact:.2f}x")
    return f"all padded to ten subjects over each at its length: {', '.join(told)}"


def cache() -> str:
    """Steps without the optimizer over the same eight examples of three subjects."""
    host = PluginHost.discover()
    objective = objective_of(check_recipe(load_recipe(RECIPE), host), host)
    assert isinstance(objective, AdapterObjective)
    source = ToyboxSource(ToyboxConfig(min_subjects=3, max_subjects=3))
    examples, parameters = [source[index] for index in range(8)], list(objective.trainable_parameters().values())

    def seconds() -> float:
        start = time.process_time()
        for first in range(0, len(examples), 4):
            generators = [torch.Generator().manual_seed(first + k) for k in range(4)]
            torch.autograd.grad(objective.loss(examples[first : first + 4], generators).mean(), parameters)
        return (time.process_time() - start) / len(examples) * 1e3

    with tempfile.TemporaryDirectory() as folder:
        kept = EncodingCache(Path(folder), objective.backbone, 10**9)
        times: dict[bool, list[float]] = {False: [], True: []}
        objective.cache = kept
        seconds()  # fills it
        for cached in (False, True) * 2:
            objective.cache = kept if cached else None
            times[cached].append(seconds())
    encoding, cached_ms = min(times[False]), min(times[True])
    return f"encoding {encoding:.1f} ms an example, from the disk {cached_ms:.1f} ms: {encoding / cached_ms:.2f}x"


def loader() -> str:
    """JPEG targets and identities of noise over shapes, about as large as photographs; latents of FLUX.1's size."""
    samples, record = 6, ten_subjects()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoding = Encoding(target="jpg", identities="jpg")
        made = [encode_record(record, f"{i:08d}", encoding) for i in range(samples)]
        write_manifest(folder, [write_shard(folder, "00000.tar", made)], {"read": samples})
        kilobytes = (folder / "00000.tar").stat().st_size / samples / 1e3
        source = SigmaSetSource(SigmaSetConfig(path=name))
        start = time.process_time()
        for index in range(samples):
            source[index]
        read = samples / (time.process_time() - start)
        latents = latents_per_second(folder / "cache", record)
    return (
        f"1024 px, ten identities of 512 px, {kilobytes:.0f} kB a sample: {read:.1f} samples a second and core; "
        f"their latents alone {latents:.0f}"
    )


def ten_subjects() -> dict[str, Any]:
    """Five toy subjects, each cut into a left and a right one, with the grain of photographs."""
    rng = np.random.default_rng(0)
    record = record_of(toy_example(5, size_hw=(1024, 1024), identity_size=512, seed=0))
    masks, boxes = [], []
    for mask in record["masks"]:
        rows, columns = np.nonzero(mask)
        middle = (columns.min() + columns.max()) // 2 + 1
        for first, last in ((columns.min(), middle), (middle, columns.max() + 1)):
            half = mask.copy()
            half[:, :first] = half[:, last:] = False
            masks.append(half)
            boxes.append([float(first), float(rows.min()), float(last), float(rows.max() + 1)])
    return {
        **record,
        "target": grained(record["target"], rng),
        "identities": [grained(record["identities"][k // 2], rng) for k in range(10)],
        "masks": np.stack(masks),
        "boxes_xyxy": boxes,
        "boxes_3d": [record["boxes_3d"][k // 2] for k in range(10)],
        "captions": [f"{side} of {caption}" for caption in record["captions"] for side in ("left", "right")],
    }


def grained(picture: RgbImage, rng: np.random.Generator) -> RgbImage:
    """With a photograph's grain, without which JPEG would have nothing to do."""
    noisy = picture + rng.normal(0, 6, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def latents_per_second(folder: Path, record: dict[str, Any]) -> float:
    """Target and identity stack looked up in the cache, pictures at hand, tokens of 64 numbers in bfloat16."""
    store = EncodingCache(folder, FullSizeLatents(), 10**9)
    pictures = (("target", record["target"]), ("identity", np.concatenate(record["identities"])))
    times = []
    for _ in range(6):
        start = time.process_time()
        for role, picture in pictures:
            store.images([picture], role)  # type: ignore[arg-type]
        times.append(time.process_time() - start)
    assert store.encoded == 2
    return 1 / min(times[1:])


class FullSizeLatents:
    """Stands for a VAE whose answers are known: what is timed is the way from the disk."""

    device = torch.device("cpu")

    def encode_image(self, images: torch.Tensor, role: str) -> Tokens:
        """One token of 64 numbers per 16 x 16 pixels."""
        length = images.shape[-2] * images.shape[-1] // 256
        return Tokens(values=torch.ones(1, length, 64, dtype=torch.bfloat16), ids=torch.zeros(length, 3))

    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        """As short as can be."""
        return TextTokens(values=torch.ones(len(prompts), 1, 1), ids=torch.zeros(1, 3))


MEASURES = (loop, balance, padding, cache, loader)


def main() -> None:
    """Prints one line per measure."""
    torch.set_num_threads(1)
    chosen = sys.argv[1:]
    for measure in MEASURES:
        if not chosen or measure.__name__ in chosen:
            print(f"{measure.__name__:<8} {measure()}", flush=True)


if __name__ == "__main__":
    main()
