"""Recipes: YAML that names components. Loading and checking import nothing heavy; ``build`` does, lazily."""

from __future__ import annotations

from sigma_framework.recipe.check import Examined, check_recipe, disabled_plugins, examine
from sigma_framework.recipe.load import LoadedRecipe, load_recipe, load_variant
from sigma_framework.recipe.locate import shipped_recipes
from sigma_framework.recipe.records import ComponentBlock, DataSourceBlock, ObjectiveBlock, Recipe, SamplerBlock
from sigma_framework.recipe.variants import evaluation_of, training_of

__all__ = [
    "ComponentBlock",
    "DataSourceBlock",
    "Examined",
    "LoadedRecipe",
    "ObjectiveBlock",
    "Recipe",
    "SamplerBlock",
    "check_recipe",
    "disabled_plugins",
    "evaluation_of",
    "examine",
    "load_recipe",
    "load_variant",
    "shipped_recipes",
    "training_of",
]
