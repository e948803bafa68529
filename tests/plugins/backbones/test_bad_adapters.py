"""``sigma-run recipes/generate.yaml adapters.main.path=FILE`` with files that must not be used."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from sigma_backbones import pocket_folder
from sigma_backbones.lora import ADAPTER_FILE, PEFT_METADATA
from sigma_framework import cli

ROOT = Path(__file__).parents[3]
SHIPPED = pocket_folder() / "adapter" / ADAPTER_FILE


def of_shipped(change: Callable[[dict[str, torch.Tensor]], object], settings: dict[str, object] | None = None) -> bytes:
    """The shipped adapter's file after a change."""
    weights = load_file(SHIPPED)
    rank = weights[first_b(weights)].shape[1]
    change(weights)
    fields = {"transformer.r": rank, "transformer.lora_alpha": rank, **(settings or {})}
    return save(weights, {PEFT_METADATA: json.dumps(fields)})


def first_b(weights: dict[str, torch.Tensor]) -> str:
    return next(key for key in sorted(weights) if "lora_B" in key)


CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "69 from a stranger": ("a.ckpt", lambda: pickle.dumps({}), "only .safetensors is accepted"),
    "70 a pickle renamed": ("a.SAFETENSORS", lambda: pickle.dumps({}), "a pickle under another name"),
    "71 cut": ("a.safetensors", lambda: SHIPPED.read_bytes()[:-1000], "damaged: expected"),
    "72 no adapter": (
        "a.safetensors", lambda: of_shipped(lambda w: [w.clear(), w.update(x=torch.ones(2))]), "no LoRA weights in it"
    ),
    "73 another base": (
        "a.safetensors",
        lambda: of_shipped(lambda w: w.update({first_b(w): torch.ones(7, 64)})),
        "layers have other widths: made for",
    ),
    "74 half pairs": ("a.safetensors", lambda: of_shipped(lambda w: w.pop(first_b(w))), "pairs are incomplete"),
    "75 NaN": ("a.safetensors", lambda: of_shipped(lambda w: w[first_b(w)].fill_(float("nan"))), "1 tensors hold NaN"),
    "75 zeros": ("a.safetensors", lambda: of_shipped(lambda w: [v.zero_() for v in w.values()]), "does nothing"),
    "76 absurd alpha": (
        "a.safetensors",
        lambda: of_shipped(lambda w: None, {"transformer.lora_alpha": 1e9}),
        "metadata field lora_alpha: found 1000000000.0",
    ),
    "77 wrong hash": ("a.safetensors", SHIPPED.read_bytes, "its SHA-256 differs"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CASES))
def test_one_line_and_exit_code_2(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, words = CASES[case]
    (tmp_path / name).write_bytes(content())
    monkeypatch.chdir(tmp_path)
    arguments = [
        str(ROOT / "recipes" / "generate.yaml"),
        f"scene={ROOT / 'examples' / 'scenes' / 'boxes.yaml'}",
        f"adapters.main.path={tmp_path / name}",
        *(["adapters.main.sha256=" + "a" * 64] if case.startswith("77") else []),
    ]
    assert cli.guarded(cli.run_app, "sigma-run", arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert not list(tmp_path.rglob("*.png")), "nothing was made"
