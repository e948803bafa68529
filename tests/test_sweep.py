"""Sweeps: variants trained and scored, spread over seeds, resumed without doing anything twice."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from sigma_framework import Framework, RecipeError, RunError
from sigma_framework.bar_chart import draw_bars
from sigma_framework.recipe import load_recipe, shipped_recipes
from sigma_framework.recipe.variants import evaluation_of, training_of
from sigma_framework.sweep import SCORES, SweepRun, belongs_to_another, keep_scores, kept_scores, run_sweep

ABLATIONS = sorted(name for name in shipped_recipes() if name.startswith("ablations/"))
WITHOUT = ("routing_accuracy", "confusion", "missing_subjects", "identity_similarity", "region_iou", "judge_depth_mse")
QUICK = [
    "sampler.steps=1", "evaluate.scenes=1", "evaluate.subjects=2", "evaluate.batch_size=1", "train.batch_size=2",
    "train.lora.rank=2", "train.lora.alpha=2", "train.validation_scenes=1", "train.grid_scenes=1",
    "train.precision=fp32", "sweep.seeds=[0]", "sweep.budget=0.005", *(f"metrics.{name}=null" for name in WITHOUT),
]  # fmt: skip


def runs_of(values: Mapping[str, list[float]], made: list[str] | None = None) -> list[SweepRun]:
    def work(variant: str, seed: int, value: float) -> Any:
        def run() -> dict[str, float]:
            if made is not None:
                made.append(f"{variant}-{seed}")
            return {"accuracy": value, "other": math.nan}

        return run

    return [
        SweepRun(variant=variant, seed=seed, work=work(variant, seed, value))
        for variant, row in values.items()
        for seed, value in enumerate(row)
    ]


def test_the_table_tells_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    lines = run_sweep(
        runs_of({"with": [0.5, 0.7, 0.9], "without": [0.2, 0.3, 0.4]}), tmp_path, heading="Equal budgets."
    )
    table = (tmp_path / "results.md").read_text()
    assert table.startswith("Equal budgets.\n")
    assert "| with | 3 | 0.7 ± 0.2 | - |" in table and "| without | 3 | 0.3 ± 0.1 | - |" in table
    assert lines[0] == "with: accuracy 0.7 ± 0.2, other -"
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"], row["accuracy"]) for row in rows][:2] == [
        ("with", "0", "0.5"),
        ("with", "1", "0.7"),
    ]
    assert Image.open(tmp_path / "figure.png").width > 400


def test_bars_are_as_long_as_their_values() -> None:
    picture = draw_bars({"accuracy": {"full": [1.0, 1.0], "half": [0.5], "none": [math.nan]}})
    blue = np.all(picture == (126, 166, 204), axis=-1)
    lengths = [int(rows.sum(axis=1).max()) for rows in np.array_split(blue[56:146], 3)]
    assert lengths[0] > 250 and lengths[1] == pytest.approx(lengths[0] / 2, abs=12) and lengths[2] == 0


def test_scores_are_kept_with_their_recipe(tmp_path: Path) -> None:
    recipe = {"task": "evaluate", "run": {"dir": "here", "seed": 1}, "sampler": {"steps": 8}}
    assert kept_scores(tmp_path, recipe) is None
    keep_scores(tmp_path, recipe, {"psnr": 11.0, "ssim": math.nan})
    found = kept_scores(tmp_path, {**recipe, "run": {"dir": "elsewhere", "seed": 1}})
    assert found is not None and found["psnr"] == 11 and math.isnan(found["ssim"])
    assert kept_scores(tmp_path, {**recipe, "sampler": {"steps": 9}}) is None
    (tmp_path / SCORES).write_text("half a fi")
    assert kept_scores(tmp_path, recipe) is None and not belongs_to_another(tmp_path, recipe)
    keep_scores(tmp_path, recipe)  # begun
    assert kept_scores(tmp_path, recipe) is None and not belongs_to_another(tmp_path, recipe)
    assert belongs_to_another(tmp_path, {**recipe, "digests": {"main": "another adapter"}})


def test_an_interrupted_sweep_goes_on_with_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real sweep of evaluations stopped in its second variant: the first one is not made again."""
    keys = ["evaluate.scenes=1", "sampler.steps=1", f"run.dir={tmp_path / 'run'}", "sweep.variants.boxes3d=null"]
    made: list[str] = []
    real = Framework.evaluate

    def evaluate(self: Framework) -> Mapping[str, float]:
        made.append(self.run_folder.name)
        if made == ["depth", "boxes2d"]:
            raise RunError("the machine was switched off")
        return real(self)

    monkeypatch.setattr(Framework, "evaluate", evaluate)
    with pytest.raises(RunError, match="switched off"):
        Framework.load("sweep", keys).run()
    assert "| depth | 1 |" in (tmp_path / "run" / "results.md").read_text()
    first = (tmp_path / "run" / "depth" / SCORES).read_bytes()
    Framework.load("sweep", keys).run()
    assert made == ["depth", "boxes2d", "boxes2d"]
    assert (tmp_path / "run" / "depth" / SCORES).read_bytes() == first
    assert "fresh" in Framework.load("sweep", keys).run()[-1] and len(made) == 3
    with pytest.raises(RunError, match=r"differs in sampler\.steps"):
        Framework.load("sweep", [*keys, "sampler.steps=2"]).run()
    Framework.load("sweep", [*keys, "sampler.steps=2"]).run(allow=["sampler.steps"])
    assert made[3:] == ["depth", "boxes2d"] and (tmp_path / "run" / "depth.1" / SCORES).read_bytes() == first


def test_a_variant_is_trained_scored_and_then_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [*QUICK, f"run.dir={tmp_path / 'run'}", "sweep.variants.same_order=null"]
    Framework.load("ablations/routing", keys).run()
    folder = tmp_path / "run"
    for name, routing in (("all_intensities_equal", "one_intensity"), ("proposed", "both_orders")):
        part = folder / name / "seed-0"
        trained = yaml.safe_load((part / "train" / "resolved.yaml").read_text())
        scored = yaml.safe_load((part / "evaluate" / "resolved.yaml").read_text())
        assert trained["conditioning"]["routing"] == scored["conditioning"]["routing"] == routing
        assert list(scored["adapters"]) == ["main"] and scored["adapters"]["main"]["path"] == "../train/adapter"
        assert trained["stages"]["s2"]["steps"] == 1
    assert (
        "all_intensities_equal 2 steps of 2 examples in 2 stage(s); proposed 2 steps"
        in (folder / "results.md").read_text()
    )
    with (folder / "results.csv").open() as file:
        scores = {row["variant"]: float(row["psnr"]) for row in csv.DictReader(file)}
    assert scores["all_intensities_equal"] != scores["proposed"]

    def twice(*_: Any, **__: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(Framework, "evaluate", twice)
    monkeypatch.setattr("sigma_framework.training.launch.run_training", twice)
    assert "fresh" in Framework.load("ablations/routing", keys).run()[-1]
    monkeypatch.undo()
    wider = [*keys, "evaluate.control=exact_mask"]  # trainings do not read it
    monkeypatch.setattr("sigma_framework.training.launch.run_training", twice)
    Framework.load("ablations/routing", wider).run(allow=["evaluate"])
    assert (
        json.loads((folder / "proposed/seed-0/evaluate" / SCORES).read_text())["recipe"]["evaluate"]["control"]
        == "exact_mask"
    )


@pytest.mark.parametrize("name", ABLATIONS)
def test_variants_of_an_ablation_differ_in_what_it_is_about_alone(name: str) -> None:
    """Equal budgets, no variant tuned alone."""
    loaded = load_recipe(name)
    sweep = loaded.data["sweep"]
    keys = {key for variant in sweep["variants"].values() for key in variant}
    about = {
        "routing": "conditioning.routing", "curriculum": "stages", "identity_size": "conditioning.identity_size",
        "channel_dropout": "conditioning.channel_dropout", "structure": "conditioning.structure",
        "identity_encoding": "backbone.identity_encoding", "guidance": "evaluate", "depth_source": "evaluate",
        "granularity": "evaluate", "one_loop": ("evaluate.subjects", "sampler"),
    }[name.removeprefix("ablations/")]  # fmt: skip
    assert all(key.startswith(about) for key in keys)
    assert len(sweep["seeds"]) == (
        1 if sweep.get("train") and "routing" not in name and "curriculum" not in name else 3
    )
    steps = set()
    for variant in sweep["variants"]:
        assert evaluation_of(loaded, variant).data["task"] == "evaluate"
        if sweep.get("train"):
            stages = training_of(loaded, variant).data["stages"]
            steps.add(sum(stage["steps"] for stage in stages.values()))
    assert len(steps) <= 1


def test_paths_of_a_variant_are_relative_to_who_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's to the file, so that `make run` finds what it trained; the command line's to the current folder."""
    root = Path(__file__).parents[1]
    path = Framework.load(root / "recipes" / "compare.yaml").variant("own").recipe.adapters["main"].path
    assert Path(path).resolve() == root / "runs" / "curriculum" / "adapter"
    monkeypatch.chdir(tmp_path)
    framework = Framework.load(
        root / "recipes" / "compare.yaml", ["sweep.variants.own={adapters.main.path: mine/adapter}"]
    )
    assert Path(framework.variant("own").recipe.adapters["main"].path) == tmp_path / "mine" / "adapter"


def test_a_sweep_with_paths_is_recorded(tmp_path: Path) -> None:
    """The keys of a variant hold dots."""
    recipe = Framework.load(Path(__file__).parents[1] / "recipes" / "compare.yaml").recipe
    variant = recipe.plain(tmp_path)["sweep"]["variants"]["own"]
    assert (tmp_path / variant["adapters.main.path"]).resolve() == recipe.files[
        "sweep.variants.own.adapters.main.path"
    ].resolve()


def test_budget_multiplies_every_stage() -> None:
    plain, wide = (load_recipe("ablations/curriculum", [f"sweep.budget={factor}"]) for factor in (1, 4))
    for variant in ("all_at_once", "three_stages"):
        before, after = (
            [stage["steps"] for stage in training_of(one, variant).data["stages"].values()] for one in (plain, wide)
        )
        assert after == [4 * steps for steps in before]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("train.devices=2", r"train\.devices: found 2 devices"),
        ("sweep.seeds=[1, 1]", r"sweep\.seeds|seeds: found \[1, 1\]"),
        ("sweep.variants.broken={stages.s1.steps: 0}", r"sweep\.variants\.broken: stages\.s1\.steps"),
        ("train.optimizer.lr=null", r"train\.optimizer\.lr"),
    ],
)
def test_a_sweep_that_cannot_train_is_refused_before_it_starts(key: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Framework.load("ablations/routing", [key])
    assert any(re.search(problem, str(one)) for one in caught.value.problems)
