"""Adapters for ComfyUI: same weights, and the scale said in the way it reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sigma_framework import WeightsError, cli
from sigma_framework.adapter_export import ADAPTER_FILE, export_adapter

LAYER = "transformer.transformer_blocks.0.attn.to_q"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder with one adapter of rank 4 and alpha 8."""
    weights = {
        f"{LAYER}.lora_A.weight": np.ones((4, 6), np.float32),
        f"{LAYER}.lora_B.weight": np.ones((5, 4), np.float16),
    }
    facts = json.dumps({"transformer.r": 4, "transformer.lora_alpha": 8})
    save_file(weights, tmp_path / ADAPTER_FILE, {"lora_adapter_metadata": facts, "sigma.identity_size": "64"})
    return tmp_path


def test_alpha_is_added_and_weights_stay(adapter: Path) -> None:
    written = export_adapter(adapter, "comfyui")
    assert written == adapter / "pytorch_lora_weights.comfyui.safetensors"
    exported, original = load_file(written), load_file(adapter / ADAPTER_FILE)
    assert exported.pop(f"{LAYER}.alpha") == 8.0
    assert exported.keys() == original.keys()
    for name, values in original.items():
        assert exported[name].dtype == values.dtype
        np.testing.assert_array_equal(exported[name], values)
    with safe_open(written, "np") as file:
        assert file.metadata() == {"format": "pt", "sigma.identity_size": "64"}, "the scale is said once"


def test_without_metadata_the_scale_is_one(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"a.lora_A.weight": np.ones((3, 2), np.float32), "a.lora_B.weight": np.ones((2, 3), np.float32)}, path)
    assert load_file(export_adapter(path, "comfyui"))["a.alpha"] == 3.0


def test_exporting_twice_changes_nothing(adapter: Path) -> None:
    first = export_adapter(adapter, "comfyui")
    second = export_adapter(first, "comfyui", adapter / "again.safetensors")
    assert load_file(first).keys() == load_file(second).keys()


def test_what_is_no_adapter(adapter: Path, tmp_path: Path) -> None:
    good = (adapter / ADAPTER_FILE).read_bytes()
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"PK\x03\x04" + b"\0" * 100, good[:-10], good[: len(good) // 4], good + b"x"):
        bad.write_bytes(content)
        with pytest.raises(WeightsError, match=r"bad\.safetensors"):
            export_adapter(bad, "comfyui")
    save_file({"vae.weight": np.ones(3, np.float32)}, bad)
    with pytest.raises(WeightsError, match="found no adapter weights"):
        export_adapter(bad, "comfyui")
    save_file({"a.lora_A.weight": np.ones((3, 2), np.float32)}, bad)
    with pytest.raises(WeightsError, match="1 of 1 layers lack"):
        export_adapter(bad, "comfyui")


def test_command(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = adapter / "mine.safetensors"
    arguments = [str(adapter), "--format", "comfyui", "--output", str(target)]
    assert cli.guarded(cli.export_app, "sigma-export", arguments) == 0
    assert target.is_file() and str(target) in capsys.readouterr().out
    assert cli.guarded(cli.export_app, "sigma-export", [str(adapter), "--format", "comfyu"]) == 2
    assert "did you mean 'comfyui'?" in capsys.readouterr().err
    assert cli.guarded(cli.export_app, "sigma-export", [str(adapter / "gone"), "--debug"]) == 2
