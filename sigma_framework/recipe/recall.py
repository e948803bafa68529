"""What an image made before says about how it was made, as overrides: a PNG is a scene, a seed and a sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sigma_framework.recipe.load import LoadedRecipe, load_recipe

RECALLED = ("sampler", "conditioning", "controls")
"""Blocks of the embedded recipe that decide the pixels; the base and its adapters stay those of the recipe run."""


def load_recalled(
    argument: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), allow_env: Sequence[str] = ()
) -> LoadedRecipe:
    """As ``load_recipe``; when the scene is an image made before, with its seed and sampler below the overrides."""
    loaded = load_recipe(argument, overrides, allow_env)
    recalled = recalled_settings(loaded)
    return load_recipe(argument, [*recalled, *overrides], allow_env) if recalled else loaded


def recalled_settings(loaded: LoadedRecipe) -> list[str]:
    """``key=value`` texts from the PNG that a recipe names as its scene; none for any other scene.

    The caller lays its own overrides over them, so the command line still sets seed and sampler.
    """
    scene = loaded.data.get("scene")
    if loaded.data.get("task") not in ("generate", "insert") or not isinstance(scene, str):
        return []
    path = loaded.origin(("scene",)).folder / scene
    text = _png_text(path)
    found = [f"run.seed={text['sigma.seed']}"] if text.get("sigma.seed", "").isdigit() else []
    embedded = _mapping(text.get("sigma.recipe"))
    if _mapping(embedded.get("sampler")).get("type") != _mapping(loaded.data.get("sampler")).get("type"):
        return found
    for block in RECALLED:
        for key, value in _mapping(embedded.get(block)).items():
            foreign = block == "controls" and key not in _mapping(loaded.data.get("controls"))
            text_of_value = json.dumps(value)
            if not foreign and "${" not in f"{key}{text_of_value}":  # pictures come from strangers: plain data only
                found.append(f"{block}.{key}={text_of_value}")
    return found


def _png_text(path: Path) -> Mapping[str, str]:
    """Text entries of a PNG; empty for anything else, whose faults the scene's own reading reports."""
    if path.suffix.lower() != ".png" or not path.is_file():
        return {}
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return {key: str(value) for key, value in getattr(image, "text", {}).items()}
    except (OSError, ValueError, SyntaxError):
        return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}
