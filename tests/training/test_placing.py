"""Models that a backbone keeps off the device stay there in training, and are ready when a run begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_backbones import devices
from sigma_framework import SelfPlacing
from sigma_framework.progress import Silent
from sigma_framework.testing import TinyBackbone
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.lightning_module import SigmaModule
from sigma_framework.training.run import run_training
from sigma_framework.training.training_run import TrainingRun


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


@pytest.fixture
def placed(training: Any, small_trainings: Any) -> Callable[..., TrainingRun]:
    """Makes a training of three steps with a backbone."""

    def make(folder: Path, backbone: TinyBackbone, cache: EncodingCache | None = None) -> TrainingRun:
        run = training(folder, {"batch_size": 2}, (3,))
        return replace(run, objective=small_trainings.adapter_objective(backbone, cache))

    return make


def module_of(run: TrainingRun, **options: Any) -> SigmaModule:
    return SigmaModule(run.objective, run.plan, run.options.optimizer, run.hand_overs, **options)


def test_lightning_moves_only_what_is_trained_where_a_backbone_places_the_rest(tmp_path: Path, placed: Any) -> None:
    backbone = Placing()
    assert isinstance(backbone, SelfPlacing)
    run = placed(tmp_path, backbone)
    assert list(module_of(run).parts) == [backbone.adapters]
    assert list(module_of(run, sharded=True).parts) == backbone.modules(), "processes share the text encoders too"
    plain = TinyBackbone()
    assert list(module_of(placed(tmp_path, plain)).parts) == list(plain.modules())


def test_a_run_tells_the_backbone_its_device_and_lets_text_encoders_rest(tmp_path: Path, placed: Any) -> None:
    for number, expected in enumerate((["cpu"], ["cpu", "rest"])):
        backbone = Placing()
        cache = EncodingCache(tmp_path / "cache", backbone, 10**9)
        run_training(placed(tmp_path / f"run-{number}", backbone, cache), Silent())
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
