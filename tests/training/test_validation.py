"""A trained adapter gets the number of its last validation again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigma_framework import Framework
from sigma_framework.errors import RecipeError
from sigma_framework.tasks import _learning_curves

RECIPES = Path(__file__).parents[2] / "recipes"


def test_an_adapter_gets_the_validation_loss_that_its_training_told(tmp_path: Path) -> None:
    small = ["stages.s1.steps=2", "stages.s2.steps=1", "stages.s3.steps=1", "train.validation_scenes=3"]
    small += ["train.batch_size=2", "train.grid_scenes=1", "train.grid_steps=1", "datasources.main.count=400"]
    trained = Framework.load(RECIPES / "curriculum.yaml", [*small, f"run.dir={tmp_path / 'run'}"]).train()
    told = {f"validation_loss_{stage}": end for stage, _, end in trained.validation}
    own = ["sweep.variants.shipped=null", f"sweep.variants.own={{adapters.main.path: {trained.weights}}}"]
    compared = [*small, *own, "evaluate.scenes=1", "sampler.steps=1", f"run.dir={tmp_path / 'compared'}"]
    lines = Framework.load(RECIPES / "compare.yaml", compared).run()
    row = dict(part.rsplit(" ", 1) for part in lines[0].removeprefix("own: ").split(", "))
    assert float(row["validation_loss_s3"]) == pytest.approx(told["validation_loss_s3"], rel=1e-3)
    assert float(row["validation_loss_s1"]) != pytest.approx(told["validation_loss_s3"], rel=1e-3)
    assert "routing_accuracy" in row
    assert any(line.startswith("own: validation loss of its training, s1: step 0 ") for line in lines)


def test_the_shipped_adapter_tells_how_it_learned() -> None:
    """It is named, not a folder; `make run` prints its curve beside the new one's."""
    lines = _learning_curves("shipped", Framework.load(RECIPES / "compare.yaml").variant("shipped"))
    assert [line.split(": step")[0] for line in lines] == [
        f"shipped: validation loss of its training, s{k}" for k in (1, 2, 3)
    ]


def test_it_needs_one_adapter_and_the_stages_it_was_trained_in() -> None:
    with pytest.raises(RecipeError) as caught:
        Framework.load(RECIPES / "evaluate.yaml", ["evaluate.validation_loss=true", "adapters=null"])
    assert "adapters: found 0, expected one" in str(caught.value)
    assert "stages: missing" in str(caught.value)
