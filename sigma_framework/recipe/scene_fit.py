"""How a scene suits a recipe: the size it takes when it names none, and what will disappoint; without torch."""

from __future__ import annotations

from functools import partial

from sigma_framework.errors import PluginError
from sigma_framework.plugin_host import build_with
from sigma_framework.recipe.records import ComponentBlock, Recipe
from sigma_framework.scene.records import DEFAULT_SIZE
from sigma_framework.scene.resolution import ResolvedScene
from sigma_framework.specs import BackboneSpec, ImageSizes, SamplerSpec, resolve_factory


def default_size(backbone: ComponentBlock | None) -> tuple[int, int]:
    """Width and height of a scene that names neither size nor background, pixels."""
    sizes = _image_sizes(backbone)
    return sizes.default if sizes is not None else DEFAULT_SIZE


def scene_warnings(recipe: Recipe, resolved: ResolvedScene, inserting: bool = False) -> list[str]:
    """What a scene asks for that this recipe will not do well, or not at all.

    Args:
        recipe: checked, with a backbone and a sampler.
        resolved: the scene.
        inserting: whether a sampler that keeps a background is taken whatever the recipe names.
    """
    warnings = []
    sizes, canvas = _image_sizes(recipe.backbone), resolved.canvas
    if sizes is not None and not all(sizes.smallest <= side <= sizes.largest for side in canvas.size_hw):
        warnings.append(
            f"size: these weights are made for {sizes.smallest} to {sizes.largest} pixels, found {canvas.width} x "
            f"{canvas.height}; write size: {list(sizes.default)} and draw the layout for it"
        )
    spec = recipe.require_sampler().component.spec
    keeps = inserting or (isinstance(spec, SamplerSpec) and "background" in spec.needs)
    if resolved.background is not None and not keeps:
        warnings.append(
            f"background: the photograph is not used, because the sampler {spec.name} makes the whole image; insert "
            "with recipes/insert.yaml (in Python: Framework.insert)"
        )
    return warnings


def _image_sizes(backbone: ComponentBlock | None) -> ImageSizes | None:
    """What the weights are made for, where they say it.

    Raises:
        PluginError: the plugin's function cannot be imported, or gives something else.
    """
    spec = None if backbone is None else backbone.component.spec
    if backbone is None or not isinstance(spec, BackboneSpec) or spec.sizes is None:
        return None
    sizes = build_with(partial(resolve_factory, spec.sizes), backbone.component, backbone.config)
    if sizes is not None and not isinstance(sizes, ImageSizes):
        what = f"BackboneSpec.sizes gives {type(sizes).__name__}, expected ImageSizes or None"
        raise PluginError(f"backbone '{spec.name}' of {backbone.component.provider}: {what}")
    return sizes
