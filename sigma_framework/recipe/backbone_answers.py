"""What a backbone's spec says of its weights, without building it and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

from sigma_framework.errors import PluginError
from sigma_framework.plugin_host import build_with
from sigma_framework.recipe.records import ComponentBlock
from sigma_framework.specs import BackboneSpec, ImageSizes, resolve_factory


def image_sizes(backbone: ComponentBlock) -> ImageSizes | None:
    """What the weights are made for, where they say it.

    Raises:
        PluginError: the plugin's function cannot be imported, or gives something else.
    """
    sizes: ImageSizes | None = _answer(backbone, "sizes", (ImageSizes, NoneType), "ImageSizes or None")
    return sizes


def adapters_brought(backbone: ComponentBlock) -> Mapping[str, Path]:
    """Adapters that come with the weights, by name.

    Raises:
        PluginError: as ``image_sizes``.
    """
    brought: Mapping[str, Path] | None = _answer(backbone, "adapters", (Mapping,), "a map of names to folders")
    return brought or {}


def numbers_of(backbone: ComponentBlock, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What its closed formulas say of a run (``BackboneSpec.explain``); nothing where it has none.

    Raises:
        PluginError: as ``image_sizes``.
    """
    numbers: Mapping[str, Any] | None = _answer(backbone, "explain", (Mapping,), "a map of names to numbers", facts)
    return numbers or {}


def _answer(
    backbone: ComponentBlock, field: str, expected: tuple[type, ...], words: str, *arguments: Mapping[str, Any]
) -> Any:
    """What the spec's function of this name gives; None where it has none."""
    component = backbone.component
    function = getattr(component.spec, field) if isinstance(component.spec, BackboneSpec) else None
    if function is None:
        return None
    given = build_with(partial(resolve_factory, function), component, backbone.config, *arguments)
    if not isinstance(given, expected):
        what = f"BackboneSpec.{field} gives {type(given).__name__}, expected {words}"
        raise PluginError(f"backbone '{component.name}' of {component.provider}: {what}")
    return given
