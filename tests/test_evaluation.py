"""What is evaluated, in which batches, by whose truth, and what is written."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_framework import Framework, Result
from sigma_framework.errors import RecipeError
from sigma_framework.evaluation import ControlDraw, Evaluation, SceneGroup, run_evaluation
from sigma_framework.evaluation.memory import PeakMemory
from sigma_framework.generation import condition_scene
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe.build import build_control, control_specs
from sigma_framework.scene import ResolvedScene
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
    work = Evaluation(
        maker=painter,  # type: ignore[arg-type]  # stands for an ImageMaker
        control_specs=control_specs(recipe, host),
        size_multiple=16,
        groups=more.pop("groups", [SceneGroup(name="toys", source=ToySource(length=6), scenes=6)]),
        subjects=None,
        draw=more.pop("draw", ControlDraw(controls=("mask",))),
        metrics={"watching": metric},
        seed=0,
        batch_size=4,
        **more,
    )
    return work, painter


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
    maker = framework._maker(
        framework._sampler_spec(inserting=False), {"box2d": build_control(framework.recipe, framework.host, "box2d")}
    )
    together = maker.make_each(scenes, [3, 4])
    alone = maker.make(scenes[1], [4], None)
    assert together[1].seeds == (4,)
    difference = np.asarray(together[1].images[0], int) - np.asarray(alone.images[0], int)
    assert np.abs(difference).max() <= 1
    assert not np.array_equal(np.asarray(together[0].images[0]), np.asarray(together[1].images[0]))
