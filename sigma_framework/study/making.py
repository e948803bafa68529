"""The page of a study: pairs of two systems' images, what they were made from, and no word of which is whose.

Images get names drawn from the seed and lose their metadata; ``key.json``, beside the page's folder, tells them apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigma_framework.conditioning.identity_image import square_on_white
from sigma_framework.conditioning.layout_picture import draw_layout, subject_colour
from sigma_framework.conditioning.scene_layers import encode_subjects
from sigma_framework.errors import DataError, PluginError, Problem, SceneError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.scene import ResolvedScene, Scene
from sigma_framework.scene.files import InputFault
from sigma_framework.scene.pictures import RGB_FORMATS, open_picture
from sigma_framework.specs import ControlSpec
from sigma_framework.study.results import Results, read_results
from sigma_framework.types import BoolMap

PAGE = "page"
"""Folder to put on a web server, or to hand out."""
KEY = "key.json"
"""Which system is ``first`` and which ``second``; stays with whoever runs the study."""
IDENTITY_SIZE = 224
"""Side of the identity pictures on the page, pixels."""
ASPECT_TOLERANCE = 0.02
"""Images may differ from the scene's aspect ratio by this share, else regions would lie elsewhere."""
_PARTS = ("index.html", "study.css", "study.js", "jspsych.js", "jspsych-licences.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """What was written."""

    pairs: int
    """On the page."""
    systems: tuple[str, str]
    """First and second."""
    notes: tuple[str, ...]
    """What was left out."""


def make_study(
    first: Path,
    second: Path,
    target: Path,
    *,
    seed: int = 0,
    per_count: int | None = None,
    on_pair: Callable[[], None] = lambda: None,
) -> StudyReport:
    """Writes ``target/page/`` (static) and ``target/key.json``.

    Args:
        first: results of one system.
        second: results of another, of the same scenes.
        target: a folder that does not exist yet; it appears when all is written.
        seed: decides which scenes are taken and, with a participant's name, their order and sides.
        per_count: at most so many scenes for each number of subjects (the paper: 5 for each of 2 to 7); None takes all.
        on_pair: called after each pair.

    Raises:
        DataError: the target exists, or with every problem of the results.
    """
    if target.exists():
        raise DataError(f"{target}: exists already; choose another folder with --output")
    if first.resolve() == second.resolve():
        raise DataError(f"{first}: found as both systems; give the results of two")
    systems = read_results(first), read_results(second)
    names = _names(systems, (first, second))
    rng = np.random.default_rng(seed)
    problems: list[Problem] = []
    notes: list[str] = []
    common = _common(systems, notes)
    scenes = _resolved(systems, common, problems)
    taken = [] if problems else _chosen(common, scenes, per_count, rng)
    unfinished = target.with_name(f".{target.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / PAGE / "images").mkdir(parents=True)
    try:
        pairs = []
        for key in taken:
            shown = [system.images[key].image for system in systems]
            pairs.append(_Pictures(unfinished / PAGE, rng).pair(key, shown, *scenes[key], problems))
            on_pair()
        if problems:
            raise DataError(f"{first} and {second}", problems)
        _write_page(unfinished, pairs, taken, names, seed)
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return StudyReport(pairs=len(pairs), systems=names, notes=tuple(notes))


def _names(systems: tuple[Results, Results], folders: tuple[Path, Path]) -> tuple[str, str]:
    """What they are called; two runs of one system are told apart by their folders."""
    first, second = systems[0].system, systems[1].system
    if first != second:
        return first, second
    return f"{first} ({folders[0]})", f"{second} ({folders[1]})"


def _common(systems: tuple[Results, Results], notes: list[str]) -> list[str]:
    first, second = systems
    common = [key for key in first.images if key in second.images]
    for one, other in ((first, second), (second, first)):
        alone = sorted(set(one.images) - set(other.images))
        if alone:
            notes.append(f"only {one.system} has {', '.join(alone[:8])}{' ...' if len(alone) > 8 else ''}; left out")
    if not common:
        examples = [next(iter(one.images)) for one in systems]
        raise DataError(f'the results have no scene in common: one has e.g. "{examples[0]}", the other "{examples[1]}"')
    return common


def _resolved(
    systems: tuple[Results, Results], common: Sequence[str], problems: list[Problem]
) -> Mapping[str, tuple[ResolvedScene, BoolMap]]:
    """Scenes and their regions by key; both systems must have been asked for the same."""
    host = PluginHost.discover()
    specs = {name: spec for name, spec in host.specs("control").items() if isinstance(spec, ControlSpec)}
    found: dict[str, tuple[ResolvedScene, BoolMap]] = {}
    for key in common:
        try:
            shown = [system.images[key] for system in systems]
            resolved, other = (Scene.load_shown(one.scene, one.image, specs) for one in shown)
            kinds = {subject.control for subject in resolved.subjects}
            encoders = {kind: host.make(host.resolve("control", kind), specs[kind].config()) for kind in kinds}
            regions = np.stack([layer.region for layer in encode_subjects(resolved, encoders)])
        except (SceneError, PluginError) as error:
            reasons = error.problems or (Problem("", error.message),)
            problems += [Problem(f"{key}: {one.where}".rstrip(": "), one.what, one.remedy) for one in reasons]
            continue
        captions = [[subject.caption for subject in scene.subjects] for scene in (resolved, other)]
        if captions[0] != captions[1]:
            what = f"the systems were given different subjects: {captions[0]} and {captions[1]}"
            problems.append(Problem(key, what, "compare results of the same scenes"))
        found[key] = resolved, regions
    return found if not problems else {}


def _chosen(
    common: Sequence[str],
    scenes: Mapping[str, tuple[ResolvedScene, BoolMap]],
    per_count: int | None,
    rng: np.random.Generator,
) -> list[str]:
    """At most ``per_count`` scenes for each number of subjects, drawn, in the order of the results."""
    by_count: dict[int, list[str]] = defaultdict(list)
    for key in common:
        if key in scenes:
            by_count[len(scenes[key][0].subjects)].append(key)
    taken: set[str] = set()
    for _, keys in sorted(by_count.items()):
        order = rng.permutation(len(keys))[: per_count or len(keys)]
        taken.update(keys[int(index)] for index in order)
    return [key for key in common if key in taken]


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Writes pictures under names that say nothing."""

    page: Path
    rng: np.random.Generator

    def pair(
        self, key: str, shown: Sequence[Path], scene: ResolvedScene, regions: BoolMap, problems: list[Problem]
    ) -> dict[str, Any]:
        """One entry of the page's list."""
        width, height = scene.canvas.width, scene.canvas.height
        images = []
        for path in shown:
            image = _opened(path, problems)
            if image is not None and abs(image.width * height / (image.height * width) - 1) > ASPECT_TOLERANCE:
                what = f"{image.width}x{image.height} pixels, its scene is {width}x{height}"
                problems.append(Problem(f"{key}: {path.name}", what, "regions would lie elsewhere in it"))
            images.append("" if image is None else self.save(image))
        subjects = [
            {
                "name": subject.caption or subject.name,
                "image": self.save(Image.fromarray(square_on_white(subject.identity, IDENTITY_SIZE, subject.cutout))),
                "region": self.save(_highlight(region, subject_colour(number))),
                "colour": "#{:02x}{:02x}{:02x}".format(*subject_colour(number)),
            }
            for number, (subject, region) in enumerate(zip(scene.subjects, regions, strict=True))
        ]
        layout = self.save(Image.fromarray(draw_layout(regions, [""] * len(regions), scene.background, labels=False)))
        token = self.rng.bytes(4).hex()
        texts = {"id": token, "prompt": scene.scene.prompt, "first": images[0], "second": images[1]}
        return {**texts, "layout": layout, "subjects": subjects}

    def save(self, image: Image.Image) -> str:
        """Writes the pixels alone, without what the file said of itself; gives the name on the page."""
        name = f"images/{self.rng.bytes(8).hex()}.png"
        bare = Image.new(image.mode, image.size)
        bare.paste(image)
        bare.save(self.page / name)
        return name


def _opened(path: Path, problems: list[Problem]) -> Image.Image | None:
    try:
        return open_picture(path, RGB_FORMATS, []).convert("RGB")
    except InputFault as fault:
        problems.append(Problem(path.name, fault.what, fault.remedy))
        return None


def _highlight(region: BoolMap, colour: tuple[int, int, int]) -> Image.Image:
    """Transparent inside the region, veiled outside, with its outline."""
    around = np.pad(region, 2)
    inner = np.logical_and.reduce([around[2 + y : y - 2 or None, 2:-2] for y in (-2, 2)])
    inner &= np.logical_and.reduce([around[2:-2, 2 + x : x - 2 or None] for x in (-2, 2)])
    veil = np.zeros((*region.shape, 4), np.uint8)
    veil[~region] = (255, 255, 255, 170)
    veil[region & ~inner] = (*colour, 255)
    return Image.fromarray(veil)


def _write_page(
    folder: Path, pairs: list[dict[str, Any]], keys: Sequence[str], systems: tuple[str, str], seed: int
) -> None:
    text = json.dumps(pairs, ensure_ascii=True)
    study = hashlib.sha256(text.encode()).hexdigest()[:12]
    document = json.dumps({"study": study, "seed": seed, "pairs": pairs}, indent=1).replace("<", "\\u003c")
    (folder / PAGE / "pairs.js").write_text(f"const STUDY = {document};\n", encoding="utf-8")
    parts = package_files("sigma_framework.study") / "page"
    for name in _PARTS:
        (folder / PAGE / name).write_bytes((parts / name).read_bytes())
    scenes = {pair["id"]: key for pair, key in zip(pairs, keys, strict=True)}
    key = {"study": study, "seed": seed, "first": systems[0], "second": systems[1], "scenes": scenes}
    (folder / KEY).write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
