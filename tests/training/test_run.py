"""Whole runs on a tiny backbone: they learn, resume bit-exactly, record, and stop when told."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_framework import Example
from sigma_framework.errors import DataError, Problem, RunError, RunInterrupted, SceneError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe import Recipe, check_recipe, load_recipe
from sigma_framework.recipe.build import build_datasources
from sigma_framework.recipe.training_schema import OptimizerBlock, TrainBlock
from sigma_framework.run_folder import write_record
from sigma_framework.testing import TinyBackbone, ToySource
from sigma_framework.training.adapter_objective import AdapterObjective, AdapterOptions, Granularity
from sigma_framework.training.checkpoints import bytes_of, find_newest, path_of
from sigma_framework.training.curriculum import StagePlan, plan_batches
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.launch import _start_anew, objective_of, plan_of, refuse_changed_recipe
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun

OPTIONS = AdapterOptions(
    identity_size=32, channel_dropout=0.1, full_prompt_share=0.5, text_dropout=0.0,
    condition_dropout=0.0, guidance=None, timesteps="logit_normal", subject_loss_weight=0.0, rank=4, alpha=4.0,
    targets=None, picture_steps=2,
)  # fmt: skip
TRAIN = TrainBlock(
    batch_size=2,
    optimizer=OptimizerBlock(type="adamw", lr=1e-2),
    checkpoint_every=3,
    validation_scenes=4,
    grid_scenes=1,
    threads=1,
)


def objective(**changes: Any) -> AdapterObjective:
    host = PluginHost.discover()
    controls = {
        name: host.make(host.resolve("control", name), host.resolve("control", name).spec.config())
        for name in ("box2d", "depth")
    }
    sampler = host.resolve("sampler", "generate")
    granularities = [
        Granularity(name="boxes", controls=("box2d",), weight=1.0),
        Granularity(name="mixed", controls=("box2d", "depth"), weight=1.0),
    ]
    made = host.make(sampler, sampler.spec.config())
    return AdapterObjective(TinyBackbone(), controls, granularities, made, replace(OPTIONS, **changes), seed=1)


def training(folder: Path, train: TrainBlock = TRAIN, steps: tuple[int, int] = (5, 4), **changes: Any) -> TrainingRun:
    sources = {"toy": ToySource(length=60)}
    stages = [
        StagePlan(name="s1", steps=steps[0], min_subjects=1, max_subjects=2, sources=("toy",)),
        StagePlan(name="s2", steps=steps[1], min_subjects=2, max_subjects=None, sources=("toy",)),
    ]
    folder.mkdir(exist_ok=True)
    return TrainingRun(
        objective=objective(**changes),
        sources=sources,
        plan=plan_batches(stages, sources, {"toy": 1.0}, train.batch_size, 7, train.validation_scenes),
        folder=folder,
        weights_folder=folder / "adapter",
        recipe_yaml="task: train\n",
        options=train,
        hand_overs=("keep", "keep"),
        resume_line="sigma-run again",
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = find_newest(folder / "checkpoints").newest
    assert state is not None
    return dict(state.parameters)


def test_a_run_leaves_its_records_and_learns(tmp_path: Path) -> None:
    run = training(tmp_path, steps=(40, 6))
    outcome = run_training(run, Silent())
    (_, before, after), (_, later, end) = outcome.validation
    assert after < before
    assert end < later * 1.02
    found = rows(tmp_path)
    assert [row["step"] for row in found if row["loss"]] == [str(step) for step in range(1, 47)]
    assert {row["stage"] for row in found} == {"s1", "s2"}
    names = sorted(path.name for path in (tmp_path / "grids").iterdir())
    assert names == ["s1-000000.png", "s1-000040.png", "s2-000046.png"]
    assert list((tmp_path / "tensorboard").iterdir())
    assert list((tmp_path / "adapter").iterdir())


def test_a_run_stopped_at_a_stages_end_begins_the_next_once_more(tmp_path: Path, stop_after: Any) -> None:
    run_training(training(tmp_path / "whole"), Silent())
    with pytest.raises(RunInterrupted, match="go on with: sigma-run again") as caught:
        run_training(training(tmp_path / "parts"), stop_after(5, signal.SIGTERM))
    assert caught.value.exit_code == 143
    assert find_newest(tmp_path / "parts" / "checkpoints").newest.step == 5
    run_training(training(tmp_path / "parts"), Silent())
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    starts = [(row["step"], row["stage"]) for row in rows(tmp_path / "parts") if not row["loss"]]
    assert starts == [("0", "s1"), ("5", "s2"), ("5", "s2")]
    losses = [[row["loss"] for row in rows(tmp_path / name) if row["loss"]] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_forgetting_the_optimizer_would_be_noticed(
    tmp_path: Path, stop_after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative of the test above: without the optimizer's state the weights differ."""
    run_training(training(tmp_path / "whole"), Silent())
    with pytest.raises(RunInterrupted):
        run_training(training(tmp_path / "parts"), stop_after(5, signal.SIGINT))
    from sigma_framework.training.lightning_module import SigmaModule

    before = SigmaModule.__init__

    def forgetful(self: SigmaModule, *arguments: Any, **named: Any) -> None:
        before(self, *arguments, **{**named, "optimizer_state": None})

    monkeypatch.setattr(SigmaModule, "__init__", forgetful)
    run_training(training(tmp_path / "parts"), Silent())
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert not all(torch.equal(whole[name], parts[name]) for name in whole)


def test_data_workers_change_nothing(tmp_path: Path) -> None:
    run_training(training(tmp_path / "none", steps=(3, 1)), Silent())
    run_training(training(tmp_path / "two", replace(TRAIN, num_workers=2), steps=(3, 1)), Silent())
    none, two = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(none[name], two[name]) for name in none)


def test_a_data_worker_that_the_system_killed_is_told_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ToySource.__getitem__

    def killed(self: ToySource, index: int) -> Example:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, index)

    monkeypatch.setattr(ToySource, "__getitem__", killed)
    with pytest.raises(RunError, match=r"a data worker ended .*num_workers \(found 1\); go on with: sigma-run again"):
        run_training(training(tmp_path, replace(TRAIN, num_workers=1)), Silent())


def test_a_runs_checkpoint_holds_what_is_trained_and_nothing_frozen(tmp_path: Path) -> None:
    run = training(tmp_path, steps=(2, 1))
    run_training(run, Silent())
    path = path_of(tmp_path / "checkpoints", 3)
    content = torch.load(path, weights_only=True)
    trained = run.objective.trainable_parameters()
    assert set(content["state_dict"]) == set(trained)
    assert content["buffers"] == {}
    tensors = 3 * sum(weight.nbytes for weight in trained.values())  # AdamW keeps two moments
    assert sum(weight.nbytes for module in run.objective.modules() for weight in module.parameters()) > tensors / 3
    assert tensors < bytes_of(content) - bytes_of({}) < 1.01 * tensors
    assert {"step", "seed", "recipe", "data", "optimizer_states"} < set(content)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_example_that_cannot_be_delivered_is_named_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    plain, problem = ToySource.__getitem__, Problem("mask", "found nothing, expected a picture")

    def damaged(self: ToySource, index: int) -> Example:
        if index < 45:  # the others are validation's
            raise SceneError("00007.tar", [problem])
        return plain(self, index)

    monkeypatch.setattr(ToySource, "__getitem__", damaged)
    with pytest.raises(DataError) as caught:
        run_training(training(tmp_path, replace(TRAIN, num_workers=workers)), Silent())
    first, second = caught.value.render().splitlines()
    assert re.fullmatch(r"datasources\.toy, example \d+: 00007\.tar: 1 problem", first)
    assert second.strip() == str(problem)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    run_training(training(tmp_path, steps=(2, 1)), Silent())
    with pytest.raises(RunError, match="holds other weights"):
        run_training(training(tmp_path, steps=(4, 1), rank=2), Silent())


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    run = training(tmp_path, replace(TRAIN, max_bad_steps=0))
    plain = run.objective.loss
    calls = []

    def poisoned(examples: Any, generators: Any) -> torch.Tensor:
        calls.append(len(examples))
        loss = plain(examples, generators)
        return loss * float("nan") if torch.is_grad_enabled() and sum(calls) > 9 else loss

    run.objective.loss = poisoned  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"step \d+: the loss is nan .* toy"):
        run_training(run, Silent())
    state = find_newest(tmp_path / "checkpoints").newest
    assert state is None or all(bool(torch.isfinite(value).all()) for value in state.parameters.values())


def test_the_time_limit_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    outcome = run_training(training(tmp_path, replace(TRAIN, time_limit_minutes=1e-6)), Silent())
    assert not outcome.complete
    assert "go on with: sigma-run again" in outcome.notes[-1]
    state = find_newest(tmp_path / "checkpoints").newest
    assert state is not None
    assert state.step == 1
    assert not (tmp_path / "adapter").exists()


def test_a_second_interrupt_stops_at_once_with_130(
    tmp_path: Path, stop_after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_again(text: str) -> None:
        if "again to stop at once" in text:
            os.kill(os.getpid(), signal.SIGINT)

    progress = stop_after(2, signal.SIGINT)
    monkeypatch.setattr(progress, "note", interrupt_again)
    with pytest.raises(RunInterrupted, match="stopped at once") as caught:
        run_training(training(tmp_path), progress)
    assert caught.value.exit_code == 130


def test_subject_weight_counts_regions_more() -> None:
    source = ToySource(length=6)
    examples = [source[1]]

    def value(**changes: Any) -> float:
        return float(objective(channel_dropout=0.0, **changes).loss(examples, [torch.Generator().manual_seed(3)]))

    assert value() == value(subject_loss_weight=0.0)
    assert value(subject_loss_weight=5.0) != value()


def test_shifted_times_lie_nearer_to_noise() -> None:
    def times(kind: str) -> torch.Tensor:
        return objective(timesteps=kind)._draw_times([torch.Generator().manual_seed(k) for k in range(400)])

    plain, uniform, shifted = times("logit_normal"), times("uniform"), times("shifted")
    assert torch.allclose(shifted, 3 * plain / (1 + 2 * plain), atol=1e-5)
    assert float((uniform > 0.9).float().mean()) == pytest.approx(0.1, abs=0.05)
    assert float((plain > 0.9).float().mean()) < 0.04


def test_a_source_without_depth_draws_what_it_can() -> None:
    example = ToySource(length=6)[1]
    flat = replace(example, subjects=tuple(replace(s, depth=None, box3d=None) for s in example.subjects))
    import numpy as np

    made = [objective().condition(flat, np.random.default_rng(seed), training=True) for seed in range(6)]
    assert all(not one.spatial[..., 2].any() for one in made)


def test_a_full_cache_is_told_once(tmp_path: Path, note_keeper: Any) -> None:
    run = training(tmp_path)
    assert isinstance(run.objective, AdapterObjective)
    run.objective.cache = EncodingCache(tmp_path / "cache", run.objective.backbone, 1)
    run_training(run, note_keeper)
    assert sum("is full" in text for text in note_keeper.notes) == 1


def test_a_run_that_goes_on_is_not_set_aside(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from sigma_framework.run_folder import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    with pytest.raises(RunError, match=f"in use by process {other.pid}"):
        _start_anew(folder, Silent())
    assert folder.is_dir()
    other.communicate("")
    _start_anew(folder, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["run.1"]


def test_a_record_of_an_earlier_version_lacks_only_defaults(tmp_path: Path) -> None:
    """Keys that came since then are at their defaults in it, so that an upgrade refuses no run that goes on."""
    host, path = PluginHost.discover(), Path(__file__).parents[2] / "recipes" / "curriculum.yaml"

    def checked(*overrides: str) -> Recipe:
        return check_recipe(load_recipe(path, overrides), host)

    plain = checked().plain(tmp_path)
    del plain["train"]["attention_loss_weight"], plain["backbone"]["activation_gb"], plain["train"]["ema_decay"]
    write_record(tmp_path, plain, {})
    refuse_changed_recipe(checked(), host, tmp_path, ())
    with pytest.raises(RunError, match=r"differs in train\.attention_loss_weight;"):
        refuse_changed_recipe(checked("train.attention_loss_weight=0.5"), host, tmp_path, ())
    plain["train"]["of_old"] = 1
    write_record(tmp_path, plain, {})
    with pytest.raises(RunError, match=r"differs in .*train\.of_old;"):
        refuse_changed_recipe(checked(), host, tmp_path, ())


def test_a_recipe_sets_the_token_budget_and_the_cache(tmp_path: Path) -> None:
    host = PluginHost.discover()
    keys = ["train.tokens_per_batch=4000", "train.batch_size=2", f"train.cache={tmp_path}", "train.cache_gb=0.5"]
    recipe = check_recipe(load_recipe(Path(__file__).parents[2] / "recipes" / "curriculum.yaml", keys), host)
    plan = plan_of(recipe, build_datasources(recipe, host))
    sizes = {len(plan.batch(step)) for step in range(plan.total_steps)}
    assert len(sizes) > 1
    assert all(size % 2 == 0 for size in sizes)
    made = objective_of(recipe, host)
    assert isinstance(made, AdapterObjective)
    assert made.cache is not None
    assert (made.cache.folder, made.cache.limit_bytes) == (tmp_path, 500_000_000)
