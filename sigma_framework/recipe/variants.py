"""What a sweep runs: each variant of a recipe as a training and as an evaluation of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sigma_framework.recipe.load import LoadedRecipe, load_variant

ADAPTER = "main"
"""Name of the adapter that a trained variant is evaluated with."""
_OF_SCORES = ("metrics", "evaluate", "adapters")
"""Blocks that training does not read: a trained variant stays valid when they change."""


def evaluation_of(
    loaded: LoadedRecipe, name: str, seed: int | None = None, adapter: Path | None = None
) -> LoadedRecipe:
    """One variant as a recipe of the task ``evaluate``.

    Args:
        loaded: the sweep's recipe.
        name: of the variant.
        seed: in the place of ``run.seed``; None keeps it.
        adapter: file or folder of the only adapter; None keeps the recipe's adapters.
    """
    keys: dict[str, Any] = {"task": "evaluate", **_seeded(seed)}
    if adapter is not None:
        keys |= {"adapters": None, f"adapters.{ADAPTER}.path": str(adapter.absolute())}
    return _without(load_variant(loaded, name, keys), ("sweep",))


def training_of(loaded: LoadedRecipe, name: str, seed: int | None = None) -> LoadedRecipe:
    """One variant as a recipe of the task ``train``, the steps of its stages times ``sweep.budget``."""
    variant = load_variant(loaded, name, {"task": "train", **_seeded(seed)})
    budget = _map(variant.data.get("sweep")).get("budget", 1.0)
    return _scaled(_without(variant, ("sweep", *_OF_SCORES)), budget)


def _seeded(seed: int | None) -> dict[str, int]:
    return {} if seed is None else {"run.seed": seed}


def _without(loaded: LoadedRecipe, keys: tuple[str, ...]) -> LoadedRecipe:
    """After references are resolved, so that what is left may have referred to what goes."""
    data, redacted = ({key: part[key] for key in part if key not in keys} for part in (loaded.data, loaded.redacted))
    return replace(loaded, data=data, redacted=redacted)


def _scaled(loaded: LoadedRecipe, budget: Any) -> LoadedRecipe:
    if budget == 1 or not isinstance(budget, int | float):  # another type is found by the check of the sweep itself
        return loaded
    return replace(loaded, data=_longer(loaded.data, budget), redacted=_longer(loaded.redacted, budget))


def _longer(data: Mapping[str, Any], budget: float) -> dict[str, Any]:
    """Stages with steps times ``budget``, at least one each."""
    stages: dict[str, Any] = {}
    for name, stage in _map(data.get("stages")).items():
        steps = stage.get("steps") if isinstance(stage, Mapping) else None
        stages[name] = {**stage, "steps": max(1, round(steps * budget))} if isinstance(steps, int) else stage
    return {**data, "stages": stages}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
