"""The other tasks of a recipe: evaluate, build, sweep; what they write and what they refuse."""

from __future__ import annotations

import csv
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sigma_framework import Framework, RunError
from sigma_framework.errors import DataError
from sigma_framework.sweep import SweepRun, run_sweep

RECIPES = Path(__file__).parents[1] / "recipes"


def test_evaluation_scores_scenes_and_shows_them(tmp_path: Path, note_keeper: Any) -> None:
    overrides = ["evaluate.scenes=2", "evaluate.subjects=3", "sampler.steps=2", f"run.dir={tmp_path / 'run'}"]
    lines = Framework.load(RECIPES / "evaluate.yaml", overrides).run()
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["subjects"] for row in rows] == ["3", "3"]
    means = dict(line.split(": ") for line in lines if ": " in line)
    measured = np.mean([float(row["psnr"]) for row in rows])
    assert float(means["psnr"]) == pytest.approx(measured, rel=1e-4)
    assert "data:image/png;base64," in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "images" / "0001.png").exists()
    assert "| ssim |" in (tmp_path / "run" / "results.md").read_text()
    again = Framework.load(RECIPES / "evaluate.yaml", overrides).run()
    assert "report.html is there from an earlier run; --fresh starts anew" in again[0]
    more = Framework.load(RECIPES / "evaluate.yaml", [*overrides, "evaluate.scenes=3"])
    with pytest.raises(RunError, match=r"differs in evaluate\.scenes"):
        more.run()
    more.progress = note_keeper
    more.run(allow=["evaluate.scenes"])
    assert "2 of 3 images are there from an earlier run" in note_keeper.notes
    with (tmp_path / "run" / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3, "what was accepted is done"
    (kept,) = tmp_path.glob("run.*")
    assert (kept / "report.html").exists() and (kept / "images" / "0001.png").exists(), "the earlier run is kept whole"
    assert "is there from an earlier run" in more.run(allow=["evaluate.scenes"])[0]


def test_the_truth_has_the_best_row_and_shuffled_identities_the_worst(tmp_path: Path) -> None:
    measures = {name: "null" for name in ("missing_subjects", "region_iou", "judge_depth_mse", "ssim", "psnr_subjects")}
    few = ["evaluate.scenes=3", "evaluate.subjects=4", "evaluate.made_by=target"]
    few += [f"metrics.{name}={nothing}" for name, nothing in measures.items()]
    found = {}
    for name, more in {"truth": [], "shuffled": ["evaluate.shuffle_identities=true"]}.items():
        folder = tmp_path / name
        framework = Framework.load(RECIPES / "evaluate.yaml", [*few, *more, f"run.dir={folder}"])
        found[name] = framework.evaluate()
        assert "backbone" not in vars(framework)  # nothing was made, so no weights were loaded
        assert f"**ground truth{', identities shuffled' if more else ''}**" in (folder / "results.md").read_text()
    assert found["truth"]["routing_accuracy"] >= 11 / 12
    assert found["truth"]["psnr"] == math.inf
    assert found["shuffled"]["routing_accuracy"] <= 1 / 12  # no identity is right by luck
    assert found["truth"]["identity_similarity"] > found["shuffled"]["identity_similarity"] + 0.3


def test_asking_for_more_scenes_than_there_are_says_so(tmp_path: Path) -> None:
    overrides = ["evaluate.scenes=5", "datasources.main.count=3", f"run.dir={tmp_path / 'run'}"]
    with pytest.raises(DataError, match=r"evaluate\.scenes"):
        Framework.load(RECIPES / "evaluate.yaml", overrides).run()


def test_build_writes_shards_that_say_what_is_in_them(tmp_path: Path) -> None:
    overrides = ["build.count=4", f"run.dir={tmp_path / 'run'}", "datasources.main.min_subjects=4"]
    Framework.load(RECIPES / "build.yaml", overrides).run()
    shards = tmp_path / "run" / "shards"
    manifest = json.loads((shards / "manifest.json").read_text())
    with tarfile.open(shards / "00000.tar") as shard:
        names = shard.getnames()
        facts = json.load(shard.extractfile("00000000.json"))  # type: ignore[arg-type]  # the member is a file
        masks = np.asarray(Image.open(shard.extractfile("00000000.masks.png")))
        depth = np.asarray(Image.open(shard.extractfile("00000000.depth.png")))
    assert set(names) == set(manifest["shards"][0]["members"])
    assert len(names) == 5 * manifest["samples"]
    assert masks.shape == (128 * len(facts["subjects"]), 128)
    shown = masks.reshape(-1, 128, 128).any(axis=0)
    assert ((depth > 0) == shown).mean() > 0.99


def test_sweep_runs_every_variant_into_one_table(tmp_path: Path) -> None:
    overrides = ["evaluate.scenes=1", "sampler.steps=1", f"run.dir={tmp_path / 'run'}", "sweep.variants.boxes3d=null"]
    lines = Framework.load(RECIPES / "sweep.yaml", overrides).run()
    with (tmp_path / "run" / "results.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["depth", "boxes2d"]
    assert (tmp_path / "run" / "depth" / "report.html").exists()
    assert len(lines) == 3


def test_an_interrupted_sweep_keeps_what_it_has(tmp_path: Path) -> None:
    def broken() -> dict[str, float]:
        raise RunError("stop")

    runs = [
        SweepRun(variant="first", seed=0, work=lambda: {"psnr": 1.0}),
        SweepRun(variant="second", seed=0, work=broken),
    ]
    with pytest.raises(RunError):
        run_sweep(runs, tmp_path)
    assert "| first | 1 | 1 |" in (tmp_path / "results.md").read_text()


def test_an_evaluation_with_other_numbers_is_not_taken_for_done(tmp_path: Path) -> None:
    few = ["evaluate.scenes=1", "sampler.steps=1", f"run.dir={tmp_path / 'run'}"]
    Framework.load(RECIPES / "evaluate.yaml", few).run()
    with pytest.raises(RunError, match=r"differs in evaluate\.scenes"):
        Framework.load(RECIPES / "evaluate.yaml", [*few, "evaluate.scenes=2"]).run()
