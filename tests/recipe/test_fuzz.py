"""Whatever a recipe holds, loading and checking it gives a recipe or a ``RecipeError``."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigma_framework import RecipeError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe import check_recipe, load_recipe
from sigma_framework.recipe.check import KNOWN_KEYS

KEYS = st.sampled_from(
    [*KNOWN_KEYS, "extends_not", "type", "steps", "control", "path", "s1", "main", "x.y", "", "datasources"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["${run.seed}", "${env:A}", "base", "box"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, VALUES, max_size=6), st.lists(st.text(max_size=12), max_size=2))
def test_no_recipe_is_a_defect(host: PluginHost, data: dict[str, Any], overrides: list[str]) -> None:
    try:
        recipe = check_recipe(load_recipe(data, overrides), host)
    except RecipeError as error:
        assert error.problems
    else:
        assert recipe.plain()["task"] == recipe.task
