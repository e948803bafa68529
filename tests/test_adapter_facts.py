"""An adapter says what it was trained with, and a recipe that wants something else is stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sigma_backbones import pocket_folder
from sigma_framework import Framework, WeightsError
from sigma_framework.adapter_facts import (
    ADAPTER_FILE,
    COMPARED,
    adapter_facts,
    check_digest,
    check_facts,
    digest_of,
    digests_of,
)
from sigma_framework.recipe import Recipe
from sigma_framework.training.launch import objective_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Framework.load(ROOT / "recipes" / "generate.yaml").recipe


def test_own_facts_agree(recipe: Recipe) -> None:
    check_facts("main", adapter_facts(recipe), recipe)
    check_facts("main", None, recipe)
    check_facts("main", {"modelspec.title": "a style from elsewhere"}, recipe)


@pytest.mark.parametrize("fact", sorted(COMPARED))
def test_each_difference_is_an_error(recipe: Recipe, fact: str) -> None:
    with pytest.raises(WeightsError) as caught:
        check_facts("main", {**adapter_facts(recipe), fact: "512"}, recipe)
    message = str(caught.value)
    assert f"adapter main was trained for something else: {fact}: found" in message
    assert f'"{adapter_facts(recipe)[fact]}"' in message
    assert "\n" not in message


def test_the_remedy_can_be_typed(recipe: Recipe) -> None:
    with pytest.raises(WeightsError, match=r"write conditioning\.identity_size=96"):
        check_facts("main", {"sigma.identity_size": "96"}, recipe)


def test_all_differences_are_told(recipe: Recipe) -> None:
    with pytest.raises(WeightsError, match="2 problems"):
        check_facts("main", {"sigma.identity_size": "96", "sigma.ids": "of another kind"}, recipe)


def test_a_loaded_adapter_is_compared_with_the_recipe() -> None:
    framework = Framework.load(ROOT / "recipes" / "generate.yaml", ["conditioning.identity_size=96"])
    with pytest.raises(WeightsError, match=r"identity_size: found \"64\", this recipe has \"96\""):
        framework.backbone  # noqa: B018  built when first asked for


@pytest.mark.parametrize(("size", "agrees"), [(64, True), (96, False)])
def test_training_that_starts_from_an_adapter_is_compared_too(size: int, agrees: bool, tmp_path: Path) -> None:
    start = ROOT / "plugins" / "backbones" / "sigma_backbones" / "pocket" / "adapter"
    overrides = [f"train.init_from={start}", f"conditioning.identity_size={size}", f"run.dir={tmp_path / 'run'}"]
    framework = Framework.load(ROOT / "recipes" / "curriculum.yaml", overrides)
    if agrees:
        assert objective_of(framework.recipe, framework.host).trainable_parameters()
        return
    with pytest.raises(
        WeightsError, match=r"identity_size: found \"64\", this recipe has \"96\"; write cond"
    ) as caught:
        framework.train()
    assert "(train.init_from)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "resolved.yaml").exists(), "the mended recipe may start in the same folder"


def test_training_may_turn_an_adapter_to_another_routing() -> None:
    """By the shipped one's name, as ablations do."""
    keys = ["train.init_from=pocket", "conditioning.routing=one_order"]
    framework = Framework.load(ROOT / "recipes" / "curriculum.yaml", keys)
    with pytest.raises(WeightsError, match=r"write conditioning\.routing=both_orders"):
        objective_of(framework.recipe, framework.host)
    framework = Framework.load(ROOT / "recipes" / "curriculum.yaml", [*keys, "train.init_facts=any"])
    weights = objective_of(framework.recipe, framework.host).trainable_parameters()
    assert any(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name), "a fresh one would be zero"


def test_a_published_digest_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    check_digest("main", file, digest.upper())
    check_digest("main", file, None)
    with pytest.raises(WeightsError, match="its SHA-256 differs") as caught:
        check_digest("main", file, "0" * 64)
    assert digest in str(caught.value)
    with pytest.raises(WeightsError, match=r"adapters\.main\.sha256: found no file"):
        check_digest("main", tmp_path / "nowhere", digest)


def test_the_shipped_adapter_has_a_digest() -> None:
    keys = ["adapters.main.sha256=" + digest_of(pocket_folder() / "adapter" / ADAPTER_FILE)]
    framework = Framework.load(ROOT / "recipes" / "generate.yaml", keys)
    assert {"main": framework.recipe.adapters["main"].sha256} == digests_of(framework.recipe)
    assert framework.backbone is not None
    with pytest.raises(WeightsError, match="its SHA-256 differs"):
        Framework.load(ROOT / "recipes" / "generate.yaml", ["adapters.main.sha256=ab"]).backbone  # noqa: B018  built when first asked for


def test_the_digest_of_a_recipe_is_read(tmp_path: Path) -> None:
    framework = Framework.load(
        ROOT / "recipes" / "generate.yaml", ["adapters.main.sha256=ab", f"adapters.main.path={tmp_path}"]
    )
    with pytest.raises(WeightsError, match="found no file"):
        framework.backbone  # noqa: B018
