"""The learning curve beside an adapter."""

from __future__ import annotations

from pathlib import Path

from sigma_framework.learning_curve import CURVE_FILE, describe_learning_curve, write_learning_curve

METRICS = """step,stage,loss,val_loss,d_lr,examples_per_second
0,s1,,1.5,0.1,
1,s1,1.4,,0.1,9
2,s1,1.3,1.2,0.1,9
2,s1,1.3,1.1,0.1,9
2,s2,,2.0,0.1,
4,s2,1.9,1.8,0.1,9
"""


def test_it_holds_each_validation_once_and_tells_stages_apart(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(METRICS)
    write_learning_curve(metrics, tmp_path)
    assert (tmp_path / CURVE_FILE).read_text() == "step,stage,val_loss\n0,s1,1.5\n2,s1,1.1\n2,s2,2.0\n4,s2,1.8\n"
    assert describe_learning_curve(tmp_path) == ["s1: step 0 1.500, 2 1.100", "s2: step 2 2.000, 4 1.800"]


def test_a_long_stage_shows_its_first_and_last_points(tmp_path: Path) -> None:
    rows = "".join(f"{step},s1,,{step}.0,0.1,\n" for step in range(40))
    (tmp_path / "metrics.csv").write_text(METRICS.splitlines()[0] + "\n" + rows)
    write_learning_curve(tmp_path / "metrics.csv", tmp_path)
    (line,) = describe_learning_curve(tmp_path)
    assert line.startswith("s1: step 0 0.000, ")
    assert line.endswith(", 39 39.000")
    assert line.count(",") == 5


def test_no_metrics_no_curve(tmp_path: Path) -> None:
    write_learning_curve(tmp_path / "metrics.csv", tmp_path)
    assert describe_learning_curve(tmp_path) == []
