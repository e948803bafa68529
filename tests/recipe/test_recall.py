"""A picture made before as the scene: its seed and sampler come back, below what the caller says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from sigma_framework.recipe.recall import load_recalled


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG with the text entries that a run writes."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("sigma.seed", "41")
    sampler = {"type": "plain", "steps": 9, "negative_prompt": "${env:SIGMA_CANARY}"}
    info.add_itxt("sigma.recipe", json.dumps({"sampler": sampler, "backbone": {"type": "other"}}))
    path = tmp_path / "made.png"
    Image.new("RGB", (16, 16)).save(path, pnginfo=info)
    return path


def test_seed_and_sampler_come_back(picture: Path, generate: dict[str, Any]) -> None:
    data = load_recalled(generate, [f"scene={picture}"]).data
    assert (data["run"]["seed"], data["sampler"]["steps"]) == (41, 9)
    assert data["backbone"] == {"type": "base"}


def test_overrides_win(picture: Path, generate: dict[str, Any]) -> None:
    data = load_recalled(generate, [f"scene={picture}", "run.seed=2", "sampler.steps=3"]).data
    assert (data["run"]["seed"], data["sampler"]["steps"]) == (2, 3)


def test_a_strangers_picture_refers_to_nothing(
    picture: Path, generate: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGMA_CANARY", "canary-value")
    loaded = load_recalled(generate, [f"scene={picture}"], ["SIGMA_CANARY"])
    assert "canary-value" not in repr(loaded.data) and not loaded.problems
