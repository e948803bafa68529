"""Models that a backbone keeps off the device stay there in training, and are ready when a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_backbones import devices
from sigma_framework import SelfPlacing
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Silent
from sigma_framework.recipe.training_schema import OptimizerBlock, TrainBlock
from sigma_framework.testing import TinyBackbone, ToySource
from sigma_framework.training.adapter_objective import AdapterObjective, AdapterOptions, Granularity
from sigma_framework.training.curriculum import StagePlan, plan_batches
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.lightning_module import SigmaModule
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun

OPTIONS = AdapterOptions(
    identity_size=16, channel_dropout=0.1, full_prompt_share=0.5, text_dropout=0.0, condition_dropout=0.0,
    guidance=None, timesteps="logit_normal", subject_loss_weight=0.0, rank=2, alpha=2.0, targets=None, picture_steps=1,
)  # fmt: skip
TRAIN = TrainBlock(
    batch_size=2, optimizer=OptimizerBlock(type="adamw", lr=1e-2), validation_scenes=2, grid_scenes=1, threads=1
)


class Placing(TinyBackbone):
    """Has text encoders of its own, and writes down where it is told to be."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = torch.nn.Linear(2, 2).requires_grad_(False)
        self.places: list[str] = []

    def modules(self) -> list[torch.nn.Module]:
        return [*super().modules(), self.text_encoder]

    def to(self, device: torch.device | str) -> None:
        self.places.append(str(device))

    def rest_text_encoders(self) -> None:
        self.places.append("rest")


def training(folder: Path, backbone: TinyBackbone, cache: EncodingCache | None = None) -> TrainingRun:
    host = PluginHost.discover()
    box, sampler = host.resolve("control", "box2d"), host.resolve("sampler", "generate")
    sources = {"toy": ToySource(length=60, size_hw=(32, 32), identity_size=16)}
    stage = StagePlan(name="s", steps=3, min_subjects=1, max_subjects=None, sources=("toy",))
    objective = AdapterObjective(
        backbone,
        {"box2d": host.make(box, box.spec.config())},
        [Granularity(name="boxes", controls=("box2d",), weight=1.0)],
        host.make(sampler, sampler.spec.config()),
        OPTIONS,
        seed=1,
        cache=cache,
    )
    return TrainingRun(
        objective=objective,
        sources=sources,
        plan=plan_batches([stage], sources, {"toy": 1.0}, 2, 7, 2),
        folder=folder,
        weights_folder=folder / "adapter",
        recipe_yaml="task: train\n",
        options=TRAIN,
        hand_overs=("keep",),
        resume_line="sigma-run again",
    )


def module_of(run: TrainingRun, **options: Any) -> SigmaModule:
    return SigmaModule(run.objective, run.plan, TRAIN.optimizer, run.hand_overs, **options)


def test_lightning_moves_only_what_is_trained_where_a_backbone_places_the_rest(tmp_path: Path) -> None:
    backbone = Placing()
    assert isinstance(backbone, SelfPlacing)
    run = training(tmp_path, backbone)
    assert list(module_of(run).parts) == [backbone.adapters]
    assert list(module_of(run, sharded=True).parts) == backbone.modules(), "processes share the text encoders too"
    plain = TinyBackbone()
    assert list(module_of(training(tmp_path, plain)).parts) == list(plain.modules())


def test_a_run_tells_the_backbone_its_device_and_lets_text_encoders_rest(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"run-{number}").mkdir()
    for number, expected in enumerate((["cpu"], ["cpu", "rest"])):
        backbone = Placing()
        cache = EncodingCache(tmp_path / "cache", backbone, 10**9)
        run_training(training(tmp_path / f"run-{number}", backbone, cache), Silent())
        assert list(dict.fromkeys(backbone.places)) == expected, (
            "the first of them meets every prompt for the first time"
        )


@pytest.mark.parametrize(("name", "number"), [("LOCAL_RANK", 3), ("SLURM_LOCALID", 3), ("", 0)])
def test_every_process_loads_onto_its_own_accelerator(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Also before Lightning is asked: eight processes that load onto the first one would not fit there."""
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(variable, raising=False)
    if name:
        monkeypatch.setenv(name, "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert devices.choose_device("auto") == torch.device("cuda", number)
