"""Makes the golden loss curve: python tests/golden/make_loss_curve.py

Twenty steps of the curriculum with the shipped base: float32, one thread, AdamW. A change that should not change
training leaves it as it is; one that should (new weights, another draw) comes with a new curve and says why.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import torch

from sigma_framework import Framework

HERE = Path(__file__).parent
CURVE = HERE / "loss_curve.txt"
OVERRIDES = (
    "train.optimizer={type: adamw, lr: 0.001}",
    "train.batch_size=2",
    "train.lora={rank: 8, alpha: 8}",
    "train.validation_scenes=1",
    "train.grid_scenes=1",
    "train.grid_steps=1",
    "stages.s1.steps=8",
    "stages.s2.steps=6",
    "stages.s3.steps=6",
)


def loss_curve(folder: Path) -> list[float]:
    """The loss of each of the 20 steps."""
    threads = torch.get_num_threads()
    recipe = HERE.parents[1] / "recipes" / "curriculum.yaml"
    try:
        torch.set_num_threads(1)
        Framework.load(recipe, [*OVERRIDES, f"run.dir={folder}"]).run()
    finally:
        torch.set_num_threads(threads)
    with (folder / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def main() -> None:
    """Writes the curve."""
    with tempfile.TemporaryDirectory() as folder:
        losses = loss_curve(Path(folder) / "run")
    CURVE.write_text("".join(f"{step} {loss:.6g}\n" for step, loss in enumerate(losses, 1)), encoding="utf-8")


if __name__ == "__main__":
    main()
