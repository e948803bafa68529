"""Correspondence maps: where the regions of a result look among the identity images (Figure 9).

The probabilities come from a backbone that can tell them (``AttentionReader``); nothing here knows how it is built.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sigma_framework.errors import PluginError, RunError
from sigma_framework.evaluation.scenes import SceneGroup, chosen_scenes, scene_of_example
from sigma_framework.generation import ImageMaker
from sigma_framework.picture_grid import grid_picture
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Progress
from sigma_framework.protocols import AttentionReader, Backbone, ControlEncoder
from sigma_framework.recipe import Recipe
from sigma_framework.recipe.build import build_control, build_datasources, build_named_control
from sigma_framework.recipe.schema import InspectBlock
from sigma_framework.scene import ResolvedScene, Scene
from sigma_framework.types import BoolMap, FloatMap, Result, RgbImage

IDENTITY = 0
"""Place of ``I^S`` among the conditions."""
SHOWN_SCENES = 4
"""Scenes on the sheet of pictures; the table holds all."""
_INSIDE = 0.5
"""A token belongs to a region when at least so much of it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is looked at."""

    maker: ImageMaker
    """Backbone, sampler and controls."""
    scenes: Sequence[ResolvedScene]
    """One image of each is made."""
    options: InspectBlock
    """Which steps, layers and heads are averaged."""
    seed: int
    """Scene k is made from seed + k."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correspondence:
    """One scene: N regions, N identity images of n x n tokens."""

    result: Result
    """The image and its conditions."""
    mass: FloatMap
    """(N, N, n, n): mean probability with which a token of region i looks at a token of identity j."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """(N, N): of what region i looks at in all identities, the part in identity j; rows sum to 1."""
        total = self.mass.sum((2, 3), dtype=np.float64)
        return np.asarray(total / total.sum(axis=1, keepdims=True), np.float64)


class _Totals:
    """Sums what a backbone reports over the chosen steps, layers and heads."""

    def __init__(self, options: InspectBlock) -> None:
        self.options = options
        self.step = 0
        self.sum: torch.Tensor | None = None
        self.count = 0

    def report(self, layer: int, chances: tuple[torch.Tensor, ...]) -> None:
        """One layer of one call."""
        wanted = self.options
        if wanted.steps is not None and self.step not in wanted.steps:
            return
        if wanted.layers is not None and layer not in wanted.layers:
            return
        found = chances[IDENTITY][0]
        if wanted.heads is not None:
            found = found[[head for head in wanted.heads if head < found.shape[0]]]
        if found.shape[0]:
            mean = found.mean(dim=0).double().cpu()
            self.sum = mean if self.sum is None else self.sum + mean
            self.count += 1

    def mean(self) -> torch.Tensor:
        """(rows, tokens of ``I^S``).

        Raises:
            RunError: the recipe chose steps, layers or heads that there are none of.
        """
        if self.sum is None:
            raise RunError("inspect: found no such step, layer or head; leave steps, layers and heads at null for all")
        return self.sum / self.count


def plan_inspection(
    recipe: Recipe,
    host: PluginHost,
    scene: Scene | None,
    resolve: Callable[[Scene], ResolvedScene],
    maker: Callable[[Mapping[str, ControlEncoder]], ImageMaker],
) -> Inspection:
    """What the recipe looks at.

    Args:
        recipe: of the task inspect.
        host: its plugins.
        scene: the recipe's; None takes scenes of its first data source.
        resolve: checks a scene and opens its files.
        maker: loads what makes images, given encoders by registered control type.
    """
    if scene is not None:
        scenes = [resolve(scene)]
        controls = {one.control: build_control(recipe, host, one.control) for one in scenes[0].subjects}
    else:
        control, encoder = build_named_control(recipe, host, recipe.inspect.control)
        controls = {control: encoder}
        name, source = next(iter(build_datasources(recipe, host).items()))
        group = SceneGroup(name=name, source=source, scenes=recipe.inspect.scenes)
        made = scenes_of_source(group, recipe.inspect.subjects, control, encoder, recipe.run.seed)
        scenes = [resolve(one) for one in made]
    return Inspection(maker=maker(controls), scenes=scenes, options=recipe.inspect, seed=recipe.run.seed)


def run_inspection(work: Inspection, folder: Path, progress: Progress) -> Mapping[str, float]:
    """Makes the scenes' images and writes them, ``correspondence.csv`` and ``correspondence.png``.

    Returns:
        ``own_share``: the mean over all regions of the part of their attention to identities that falls on their own;
        ``chance``: what indifference would give.

    Raises:
        PluginError: the backbone cannot tell where tokens look.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    found = []
    progress.begin("scenes", len(work.scenes))
    for number, scene in enumerate(work.scenes):
        found.append(correspond(work.maker, scene, work.options, work.seed + number))
        found[-1].result.images[0].save(folder / "images" / f"{number:04d}.png")
        progress.advance()
    progress.finish()
    _write_csv(folder / "correspondence.csv", found)
    rows = [row for one in found[:SHOWN_SCENES] for row in _rows(one)]
    sheet = grid_picture(rows, ("marked region", "where it looks"))
    own = [float(share) for one in found for share in np.diag(one.shares)]
    chance = [1 / len(one.shares) for one in found for _ in one.shares]
    Image.fromarray(sheet).save(folder / "correspondence.png")
    return {"own_share": float(np.mean(own)), "chance": float(np.mean(chance))}


def correspond(maker: ImageMaker, scene: ResolvedScene, options: InspectBlock, seed: int) -> Correspondence:
    """One image, and where each region's tokens looked while it was made.

    Raises:
        PluginError: the backbone cannot tell.
        RunError: no such step, layer or head.
    """
    backbone = maker.backbone
    if not isinstance(backbone, AttentionReader):
        raise PluginError(
            f"{type(backbone).__name__} cannot tell where tokens look (it has no watch_attention); "
            "use a backbone that can, e.g. flux_kontext"
        )
    controls, _ = maker.condition(scene)
    tokens = [_tokens_of(maker.backbone, region) for region in controls.regions]
    rows = torch.from_numpy(np.flatnonzero(np.any(tokens, axis=0)))
    totals = _Totals(options)

    def count(step: int, t: float, tensors: Mapping[str, object]) -> None:
        totals.step = step + 1

    with backbone.watch_attention(rows, totals.report):
        result = maker.make(scene, [seed], count)
    looks = totals.mean()
    blocks = looks.reshape(len(looks), len(tokens), -1)
    side = math.isqrt(blocks.shape[2])
    inside = torch.from_numpy(np.stack(tokens))[:, rows].double()
    mass = torch.einsum("nr,rkt->nkt", inside, blocks) / inside.sum(dim=1)[:, None, None]
    return Correspondence(result=result, mass=mass.reshape(*mass.shape[:2], side, side).float().numpy())


def scenes_of_source(
    group: SceneGroup, subjects: int | None, control: str, encoder: ControlEncoder, seed: int
) -> list[Scene]:
    """The first scenes of a data source, all subjects placed by one control."""
    scenes = []
    for number, index in enumerate(chosen_scenes(group, subjects)):
        example = group.source[index]
        rng = np.random.default_rng((seed, number))
        scenes.append(scene_of_example(example, [control] * len(example.subjects), {control: encoder}, rng))
    return scenes


def _tokens_of(backbone: Backbone, region: BoolMap) -> NDArray[np.bool_]:
    """(l,) the target tokens of a region: those half inside, or the fullest where it is too thin for one."""
    touched = backbone.region_tokens(torch.from_numpy(region.astype(np.float32)))[0].float().mean(dim=-1)
    share = touched.cpu().numpy()
    inside = share >= min(_INSIDE, float(share.max()))
    return np.asarray(inside & (share > 0))


def _write_csv(path: Path, found: Sequence[Correspondence]) -> None:
    """One row per region and identity."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["scene", "region", "identity", "share", "own"])
        for number, one in enumerate(found):
            names = [subject.name for subject in one.result.scene.subjects]
            for i, shares in enumerate(one.shares):
                for j, share in enumerate(shares):
                    rows.writerow([number, names[i], names[j], f"{share:.6g}", int(i == j)])


def _rows(one: Correspondence) -> list[list[RgbImage]]:
    """Per region: the result with the region marked, then each identity image, bright where it is looked at."""
    picture = np.asarray(one.result.images[0])
    identities = np.split(one.result.controls.identity, len(one.mass))
    rows = []
    for region, looks, shares in zip(one.result.controls.regions, one.mass, one.shares, strict=True):
        strongest = float(looks.max())
        shown = [
            _lit(identity, look / strongest, share)
            for identity, look, share in zip(identities, looks, shares, strict=True)
        ]
        rows.append([_marked(picture, region), *shown])
    return rows


def _marked(picture: RgbImage, region: BoolMap) -> RgbImage:
    """The picture, darker outside the region."""
    return np.where(region[..., None], picture, (picture * 0.3).astype(np.uint8))


def _lit(identity: RgbImage, look: FloatMap, share: float) -> RgbImage:
    """The identity image, dark where it is not looked at, its share of the attention written below."""
    height, width = identity.shape[:2]
    light = Image.fromarray((look * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    bright = 0.2 + 0.8 * np.asarray(light, np.float32)[..., None] / 255
    sheet = Image.new("RGB", (width, height + 14), "white")
    sheet.paste(Image.fromarray((identity * bright).astype(np.uint8)), (0, 0))
    ImageDraw.Draw(sheet).text((2, height + 1), f"{100 * share:.0f} %", fill="black")
    return np.asarray(sheet)
