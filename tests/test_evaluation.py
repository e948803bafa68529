"""What is evaluated, in which batches, by whose truth, and what is written."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_framework import Example, Framework, Result
from sigma_framework.errors import DataError, PluginError, RecipeError
from sigma_framework.evaluation import ControlDraw, Evaluation, SceneGroup, run_evaluation
from sigma_framework.evaluation.generations import read_manifest
from sigma_framework.evaluation.making import Making
from sigma_framework.evaluation.memory import PeakMemory
from sigma_framework.evaluation.paper import COLUMNS, paper_tables, repeated_rows
from sigma_framework.evaluation.report import Reporting
from sigma_framework.evaluation.scoring import Scoring
from sigma_framework.evaluation.summary import read_summary
from sigma_framework.generation import condition_scene
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe.build import build_control, control_specs
from sigma_framework.scene import ResolvedScene
from sigma_framework.specs import ImageSizes
from sigma_framework.sweep import keep_scores
from sigma_framework.testing import ToySource

RECIPE = Path(__file__).parents[1] / "recipes" / "evaluate_pocket.yaml"


class Watching:
    """A metric that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Result] = []

    def update(self, result: Result, scene: object, target: np.ndarray | None) -> None:
        self.shown.append(result)

    def compute(self) -> dict[str, list[float]]:
        return {"seen": [float(len(result.controls.regions)) for result in self.shown]}

    def markdown(self) -> str:
        return "a note"


class Painter:
    """Stands for a model: grey images, real conditions; remembers its batches."""

    def __init__(self, controls: dict[str, Any]) -> None:
        self.controls = controls
        self.backbone = SimpleNamespace(device=torch.device("cpu"))
        self.batches: list[list[ResolvedScene]] = []
        self.stacks: list[np.ndarray] = []

    def make_each(self, scenes: Sequence[ResolvedScene], seeds: Sequence[int]) -> list[Result]:
        self.batches.append(list(scenes))
        results = []
        for scene, seed in zip(scenes, seeds, strict=True):
            controls, _ = condition_scene(scene, self.controls, 32, 1.3)
            self.stacks.append(controls.identity)
            image = Image.new("RGB", (scene.canvas.width, scene.canvas.height), "grey")
            results.append(Result(images=(image,), controls=controls, scene=scene.scene, seeds=(seed,), seconds=0.5))
        return results


def work_of(metric: Watching, **more: Any) -> tuple[Evaluation, Painter]:
    recipe, host = Framework.load(RECIPE).recipe, PluginHost.discover()
    painter = Painter({name: build_control(recipe, host, name) for name in ("mask", "box2d")})
    scoring = Scoring(
        metrics=more.pop("metrics", {"watching": metric}),
        better=more.pop("better", {"watching": "higher"}),
        about={"like": "as the target"},
        control_specs=control_specs(recipe, host),
        encoder=painter.controls.__getitem__,
        identity_size=32,
        identity_padding=1.3,
    )
    reporting = more.pop("reporting", Reporting())
    making = Making(
        maker=lambda: painter,  # type: ignore[arg-type,return-value]  # stands for an ImageMaker
        controls=painter.controls,
        control_specs=control_specs(recipe, host),
        size_multiple=16,
        groups=more.pop("groups", [SceneGroup(name="toys", source=ToySource(length=6), scenes=6)]),
        subjects=None,
        draw=more.pop("draw", ControlDraw(controls=("mask",))),
        seed=0,
        batch_size=4,
        system="painter",
        **more,
    )
    return Evaluation(making=making, scoring=scoring, reporting=reporting), painter


def test_more_scenes_keep_the_images_whose_number_means_the_same_scene(tmp_path: Path) -> None:
    def made(first: int, second: int) -> int:
        groups = [
            SceneGroup(name="first", source=ToySource(length=6), scenes=first),
            SceneGroup(name="second", source=ToySource(length=6, size_hw=(64, 96)), scenes=second),
        ]
        work, painter = work_of(Watching(), groups=groups)
        run_evaluation(work, tmp_path, Silent())
        manifest = read_manifest(tmp_path / "images")
        assert [one.source for one in manifest.images] == ["first"] * first + ["second"] * second
        keys = [one.key for one in manifest.images]
        assert len(set(keys[:first])) == first and len(set(keys[first:])) == second, "no scene is there twice"
        return sum(len(batch) for batch in painter.batches)

    assert made(3, 2) == 5
    assert made(3, 3) == 1, "the last group grew"
    assert made(2, 3) == 3, "the first shrank: its two are kept, the others have moved"
    assert made(2, 2) == 0
    assert made(6, 2) == 8 - 1, "scenes are made in the order of their subjects: only the first is where it was"


def test_scenes_that_the_weights_are_not_made_for_are_told(tmp_path: Path, note_keeper: Any) -> None:
    groups = [
        SceneGroup(name="own", source=ToySource(length=2), scenes=2),
        SceneGroup(name="wide", source=ToySource(length=2, size_hw=(64, 96)), scenes=2),
    ]
    for largest, expected in ((96, []), (80, ["2 of 4 scenes are not, e.g. 96 x 64"])):
        made_for = ImageSizes(default=(64, 64), smallest=64, largest=largest)
        work, _ = work_of(Watching(), groups=groups, made_for=made_for)
        run_evaluation(work, tmp_path / str(largest), note_keeper)
        assert [part in text for part, text in zip(expected, note_keeper.notes, strict=True)] == [True] * len(expected)


def test_a_batch_holds_scenes_of_one_number_of_subjects(tmp_path: Path) -> None:
    metric = Watching()
    work, painter = work_of(metric)
    run_evaluation(work, tmp_path, Silent())
    counts = [[len(scene.subjects) for scene in batch] for batch in painter.batches]
    assert all(len(set(batch)) == 1 and len(batch) <= 4 for batch in counts)
    assert len(metric.shown) == 6
    order = [count for batch in counts for count in batch]
    assert order == sorted(order)


def test_shuffled_identities_are_measured_by_the_true_order(tmp_path: Path) -> None:
    plain, mixed = Watching(), Watching()
    work, painter = work_of(plain)
    run_evaluation(work, tmp_path / "plain", Silent())
    shuffling, shuffler = work_of(mixed, shuffle_identities=True)
    run_evaluation(shuffling, tmp_path / "mixed", Silent())
    assert any(not np.array_equal(a, b) for a, b in zip(painter.stacks, shuffler.stacks, strict=True))
    for first, second in zip(plain.shown, mixed.shown, strict=True):
        assert np.array_equal(first.controls.identity, second.controls.identity)
        assert np.array_equal(first.controls.regions, second.controls.regions)


def test_mixed_controls_are_drawn_per_subject() -> None:
    draw = ControlDraw(controls=("mask", "box2d"), per_subject=True)
    names = {tuple(draw.draw(3, np.random.default_rng(seed))) for seed in range(12)}
    assert any(len(set(one)) == 2 for one in names)
    once = ControlDraw(controls=("mask", "box2d"))
    assert all(len(set(once.draw(3, np.random.default_rng(seed)))) == 1 for seed in range(12))


def test_reports_tell_groups_apart_and_what_it_cost(tmp_path: Path) -> None:
    groups = [SceneGroup(name=name, source=ToySource(length=4), scenes=2) for name in ("first", "second")]
    work, _ = work_of(Watching(), groups=groups)
    means = run_evaluation(work, tmp_path, Silent())
    assert set(means) == {"seen", "seen (second)"}
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["first", "first", "second", "second"]
    assert {row["control"] for row in rows} == {"mask"}
    assert all(float(row["peak_mib"]) > 0 and row["seconds"] == "0.500" for row in rows)
    text = (tmp_path / "results.md").read_text()
    assert "| measure | first | second |" in text
    assert "seconds per image" in text
    assert text.rstrip().endswith("a note")
    assert (tmp_path / "grid.png").exists()


def test_a_source_that_ignores_the_held_out_part_is_told() -> None:
    Framework.load(RECIPE, ["evaluate.holdout=textures", "evaluate.also.same_colour=null"])
    with pytest.raises(RecipeError) as caught:
        Framework.load(RECIPE, ["evaluate.holdout=textures", "datasources.main.holdout=none"])
    assert "write datasources.main.holdout: ${evaluate.holdout}" in str(caught.value)
    with pytest.raises(RecipeError, match=r"evaluate\.also"):
        Framework.load(RECIPE, ["evaluate.also.others=3"])


def test_peak_memory_rises_and_is_forgotten() -> None:
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    before = memory.mebibytes()
    block = np.ones(64 * 2**20, np.uint8)
    risen = memory.mebibytes()
    assert risen > before + 50
    del block
    memory.reset()
    assert memory.mebibytes() <= risen


@pytest.mark.slow
def test_the_shipped_model_is_measured_by_one_command(tmp_path: Path) -> None:
    few = ["evaluate.scenes=2", "evaluate.also.same_colour=1", "evaluate.subjects=2", "evaluate.control=mixed"]
    Framework.load(RECIPE, [*few, "sampler.steps=1", "evaluate.holdout=shapes", f"run.dir={tmp_path}/run"]).run()
    text = (tmp_path / "run" / "results.md").read_text()
    assert "control depth, box3d, box2d, drawn per subject" in text
    for measure in ("routing_accuracy", "region_iou", "judge_depth_mse", "background_change"):
        assert f"| {measure} |" in text
    assert "| 2 subjects | identity 1 | identity 2 | nothing |" in text


@pytest.mark.slow
def test_a_batch_makes_what_single_scenes_make() -> None:
    framework = Framework.load(RECIPE, ["sampler.steps=2"])
    from sigma_framework.testing import toy_scene

    scenes = [framework._resolved(toy_scene(2, size=(96, 96))) for _ in range(2)]
    maker = framework.image_maker({"box2d": build_control(framework.recipe, framework.host, "box2d")})
    together = maker.make_each(scenes, [3, 4])
    alone = maker.make(scenes[1], [4], None)
    assert together[1].seeds == (4,)
    difference = np.asarray(together[1].images[0], int) - np.asarray(alone.images[0], int)
    assert np.abs(difference).max() <= 1
    assert not np.array_equal(np.asarray(together[0].images[0]), np.asarray(together[1].images[0]))


class Like(Watching):
    """One minus the mean difference from the target, in colour levels; a column with a variant in brackets."""

    def update(self, result: Result, scene: object, target: np.ndarray | None) -> None:
        super().update(result, scene, target)
        assert target is not None
        self.last = getattr(self, "last", [])
        self.last.append(1 - float(np.abs(np.asarray(result.images[0], float) - target).mean()) / 255)

    def compute(self) -> dict[str, list[float]]:
        return {"dino_i[toy]": self.last}

    def facts(self) -> dict[str, str]:
        return {"preprocessing": "none at all"}


def test_what_is_made_is_not_made_again(tmp_path: Path) -> None:
    work, _ = work_of(Watching())
    run_evaluation(work, tmp_path, Silent())
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "images").glob("0*.png")}
    (tmp_path / "images" / "0003.png").unlink()
    again, second = work_of(Watching())
    run_evaluation(again, tmp_path, Silent())
    assert [len(batch) for batch in second.batches] == [1]
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "images").glob("0*.png")}
    assert set(now) == set(made)
    assert [name for name in now if now[name] != made[name]] == ["0003.png"]
    other, third = work_of(Watching(), made_with="another recipe")
    run_evaluation(other, tmp_path, Silent())
    assert sum(len(batch) for batch in third.batches) == 6  # not taken for its own
    assert (tmp_path / "images.1" / "0003.png").exists()


def test_the_truth_is_perfect_and_shuffled_truth_is_not(tmp_path: Path) -> None:
    rows = {}
    for name, more in {"truth": {}, "shuffled": {"shuffle_identities": True}}.items():
        metric = Like()
        work, painter = work_of(metric, made_by="target", metrics={"like": metric}, better={"like": "higher"}, **more)
        assert run_evaluation(work, tmp_path / name, Silent())["dino_i[toy]"] == 1.0
        assert not painter.batches
        rows[name] = [result.controls.identity for result in metric.shown]
    for own, given in zip(rows["truth"], rows["shuffled"], strict=True):
        blocks = zip(np.split(own, len(own) // 32), np.split(given, len(own) // 32), strict=True)
        kept = [np.array_equal(first, second) for first, second in blocks]
        assert kept == [len(kept) == 1] * len(kept)  # nothing of several is right by luck


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder as another system fills it: scenes of ours, images of its own."""
    work, _ = work_of(Watching(), made_by="nobody")
    assert run_evaluation(work, tmp_path / "export", Silent()) == {"images to make": 6.0}
    folder = tmp_path / "export" / "images"
    manifest = json.loads((folder / "manifest.json").read_text())
    for number, entry in enumerate(manifest["images"]):
        assert not (folder / entry["image"]).exists()
        with Image.open(folder / entry["target"]) as target:
            picture = target.resize((128, 128)) if number == 0 else target.copy()
        entry["image"] = f"theirs/{number}.jpg"
        (folder / "theirs").mkdir(exist_ok=True)
        picture.save(folder / entry["image"], quality=95)
        entry["seconds"] = 2.0 + number
    manifest["system"] = "Their <System>"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_images_of_any_system_are_scored(foreign: Path, tmp_path: Path) -> None:
    metric = Like()
    work, painter = work_of(metric, metrics={"like": metric}, better={"like": "higher"})
    theirs = replace(work, making=None, images=foreign, reporting=Reporting(paper_table=1, note="Only a test."))
    means = run_evaluation(theirs, tmp_path / "scored", Silent())
    assert not painter.batches
    assert 0.9 < means["dino_i[toy]"] < 1.0  # the target, through JPEG
    assert metric.shown[0].images[0].size == (64, 64)
    text = (tmp_path / "scored" / "results.md").read_text()
    assert "| one subject | UniCombine (paper) | 75.89 | 82.72 | 15.52 | Depth | 103.1 | 71.47 | 70.81 |" in text
    assert f"| several subjects | **Their <System>** | {np.mean(metric.last[2:]):.4g} ± " in text
    assert "DINO-I of this evaluation is dino_i[toy], which is not the paper's." in text
    assert "**Only a test.**" in text
    assert "`dino_i[toy]`: preprocessing none at all" in text
    page = (tmp_path / "scored" / "report.html").read_text()
    assert "Their &lt;System&gt;" in page
    assert "<System>" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("data:image/png;base64,") == 4 * 6
    with (tmp_path / "scored" / "curves.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert [(row["subjects"], row["scenes"]) for row in curve] == [("1", "2"), ("2", "2"), ("3", "2")]
    assert float(curve[0]["seconds"]) == 2.5
    ElementTree.parse(tmp_path / "scored" / "curves.svg")
    beside = Reporting(beside=(read_summary(tmp_path / "scored"),))
    ours, _ = work_of(Watching(), reporting=beside)
    run_evaluation(ours, tmp_path / "both", Silent())
    assert "**Their <System>**" in (tmp_path / "both" / "results.md").read_text()
    assert (tmp_path / "both" / "curves.csv").read_text().count("Their <System>") == 3


def test_all_that_is_wrong_with_a_folder_is_told_together(foreign: Path, tmp_path: Path) -> None:
    work, _ = work_of(Watching())
    theirs = replace(work, making=None, images=foreign)
    manifest = json.loads((foreign / "manifest.json").read_text())
    images = manifest["images"]
    images[0]["scene"] = "scenes/none.yaml"
    images[1]["image"] = "../outside.png"
    (foreign / images[2]["image"]).write_bytes(b"no picture")
    Image.new("RGB", (64, 32)).save(foreign / images[3]["image"])
    scene = foreign / images[4]["scene"]
    scene.write_text(scene.read_text().replace('"mask"', '"masque"'))
    (foreign / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError) as caught:
        run_evaluation(theirs, tmp_path / "scored", Silent())
    assert len(caught.value.problems) >= 5
    for words in (
        "images[0].scene",
        'images[1].image: found "../outside.png"',
        "images[2].image",
        "has 64x32 pixels, its scene 64x64",
        "images[4].scene",
        "did you mean 'mask'?",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "scored").exists()
    manifest["images"] = [{**images[5], "picture": 1}, images[5], 3]
    manifest |= {"version": 2, "sytem": "x"}
    (foreign / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError) as caught:
        run_evaluation(theirs, tmp_path / "scored", Silent())
    places = [problem.where for problem in caught.value.problems]
    assert places == ["sytem", "version", "images[0].picture", "images[2]", "images[1].image"]
    (foreign / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"docs/evaluation\.md"):
        run_evaluation(theirs, tmp_path / "scored", Silent())


def test_two_measures_of_one_name_are_refused(tmp_path: Path) -> None:
    work, _ = work_of(Watching(), metrics={"a": Watching(), "b": Watching()}, better={"a": "higher", "b": "higher"})
    with pytest.raises(PluginError, match=r"metrics\.a and metrics\.b both give seen"):
        run_evaluation(work, tmp_path, Silent())


def test_a_sweep_leaves_the_summary_of_its_variants_alone(tmp_path: Path) -> None:
    work, _ = work_of(Watching())
    means = run_evaluation(work, tmp_path, Silent())
    keep_scores(tmp_path, {"task": "evaluate"}, means)
    assert [row.scenes for row in read_summary(tmp_path).rows] == [2, 4]


def test_repeated_rows_of_the_paper_agree() -> None:
    tables = paper_tables()
    assert sorted(tables) == [1, 2, 3, 4, 5, 6, 7]
    assert [len(tables[number].rows) for number in sorted(tables)] == [13, 3, 3, 6, 3, 3, 2]
    for group in repeated_rows():
        rows = [tables[int(table)].rows[int(row) - 1].values for table, row in (one.split(".") for one in group)]
        for row in rows[1:]:
            assert set(row) == set(rows[0])
            assert all(row[name] == pytest.approx(rows[0][name], abs=0.051) for name in row)
    for number, table in tables.items():
        for row in table.rows:
            assert row.section in ("single", "multi")
            assert set(row.values) <= set(COLUMNS), f"table {number}"
            assert ("depth_mse" in row.values) == (number < 6 and "ox" not in row.control), row


@dataclass(frozen=True)
class Fathomed:
    """Toy examples whose whole depth is known: a slope from 2 metres on the left to 5 on the right."""

    toys: ToySource

    def __getattr__(self, name: str) -> Any:
        return getattr(self.toys, name)

    def __len__(self) -> int:
        return len(self.toys)

    def __getitem__(self, index: int) -> Example:
        return self.toys[index]

    def whole_depth(self, index: int) -> np.ndarray:
        height, width = self.toys[index].target.shape[:2]
        return np.broadcast_to(np.linspace(2, 5, width, dtype=np.float32), (height, width))


def test_full_prompts_and_whole_depth_reach_the_scene(tmp_path: Path) -> None:
    """Tables 2 and 3: what is asked differs, the scenes stay."""
    metric = Watching()
    groups = [SceneGroup(name="toys", source=Fathomed(ToySource(length=4)), scenes=3)]
    work, painter = work_of(metric, groups=groups, prompt="full", whole_depth=True)
    run_evaluation(work, tmp_path, Silent())
    scenes = [scene.scene for batch in painter.batches for scene in batch]
    assert len(scenes) == len(metric.shown) == 3
    assert all(scene.prompt_kind == "full" and "ball" in scene.prompt for scene in scenes)
    for result in metric.shown:
        structure = result.controls.spatial[:, :, 2]
        assert structure[0, 0] == 255 and structure[0, -1] == 26
        assert (np.diff(structure[0].astype(int)) <= 0).all()
    assert "full prompts, whole depth" in (tmp_path / "results.md").read_text()


def test_a_source_without_whole_depth_says_so(tmp_path: Path) -> None:
    work, _ = work_of(Watching(), whole_depth=True)
    with pytest.raises(DataError, match=r"evaluate\.structure: the source toys knows no depth"):
        run_evaluation(work, tmp_path, Silent())
