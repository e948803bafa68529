"""``distinct_prompts``: which scenes say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_annotators.config import DistinctPromptsConfig
from sigma_annotators.distinct_prompts import DistinctPrompts
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import DataError, Framework
from sigma_framework.testing import AnnotatorConformance

RECIPE = Path(__file__).parents[3] / "recipes" / "sigma_set.yaml"
SCENE: dict[str, Any] = {"key": "a", "captions": ["a red cup", "a hat"], "prompt_background": "a desk"}


def left(*records: dict[str, Any], **options: Any) -> list[int]:
    """Numbers of the records that stay."""
    given = [{**SCENE, **record, "number": number} for number, record in enumerate(records)]
    made = DistinctPrompts(DistinctPromptsConfig(**options)).annotate(given, np.random.default_rng(0))
    return [record["number"] for record in made]


class TestDistinctPrompts(AnnotatorConformance):
    spec: ClassVar[Any] = next(spec for spec in sigma_register_annotators() if spec.name == "distinct_prompts")
    records: ClassVar[Any] = (SCENE, {**SCENE, "key": "b", "prompt_background": "a shelf"})


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"captions": ["The hat", "A  red cup"]}, True),
        ({"prompt_background": "A desk"}, True),
        ({"prompt_full": "in other words"}, True),
        ({"captions": ["a red cup"]}, False),
        ({"captions": ["a red cup", "a red hat"]}, False),
        ({"prompt_background": "a white desk"}, False),
    ],
)
def test_what_says_the_same(other: dict[str, Any], same: bool) -> None:
    assert left({}, other, {"prompt_background": "elsewhere"}) == ([0, 2] if same else [0, 1, 2])


def test_the_recipe_says_what_is_compared() -> None:
    assert left({}, {"prompt_background": "a shelf"}, compare=("captions",)) == [0]
    with pytest.raises(ValueError, match="compare: found no key"):
        DistinctPromptsConfig(compare=())
    with pytest.raises(DataError, match="distinct_prompts needs mood"):
        left({}, compare=("mood",))


def test_the_full_recipe_compares_before_it_draws() -> None:
    stages = list(Framework.load(RECIPE).recipe.annotators)
    assert stages.index("prompts") < stages.index("unique") < stages.index("images")
