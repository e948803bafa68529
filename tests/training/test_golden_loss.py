"""Twenty steps of training give the losses they gave before."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_loss_curve", GOLDEN / "make_loss_curve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loss_curve_is_the_golden_one(tmp_path: Path) -> None:
    lines = (GOLDEN / "loss_curve.txt").read_text().splitlines()
    golden = [float(line.split()[1]) for line in lines]
    assert len(golden) == 20
    assert maker().loss_curve(tmp_path / "run") == pytest.approx(golden, rel=1e-3)
