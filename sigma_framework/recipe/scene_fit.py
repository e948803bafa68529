"""How a scene suits a recipe: the size it takes when it names none, and what will disappoint; without torch."""

from __future__ import annotations

from sigma_framework.recipe.backbone_answers import image_sizes
from sigma_framework.recipe.records import ComponentBlock, Recipe
from sigma_framework.scene.records import DEFAULT_SIZE
from sigma_framework.scene.resolution import ResolvedScene
from sigma_framework.specs import SamplerSpec


def default_size(backbone: ComponentBlock | None) -> tuple[int, int]:
    """Width and height of a scene that names neither size nor background, pixels."""
    sizes = None if backbone is None else image_sizes(backbone)
    return sizes.default if sizes is not None else DEFAULT_SIZE


def scene_warnings(recipe: Recipe, resolved: ResolvedScene, inserting: bool = False) -> list[str]:
    """What a scene asks for that this recipe will not do well, or not at all.

    Args:
        recipe: checked, with a backbone and a sampler.
        resolved: the scene.
        inserting: whether a sampler that keeps a background is taken whatever the recipe names.
    """
    warnings = []
    sizes, canvas = image_sizes(recipe.require_backbone()), resolved.canvas
    if sizes is not None and not sizes.suit(canvas.size_hw):
        warnings.append(
            f"size: these weights are made for {sizes.smallest} to {sizes.largest} pixels, found {canvas.width} x "
            f"{canvas.height}; write size: {list(sizes.default)} and draw the layout for it"
        )
    if not any(block.weight for block in recipe.adapters.values()):
        warnings.append(
            "adapters: none is at work, and a base alone knows no regions; name one: adapters.main.path=FOLDER"
        )
    spec = recipe.require_sampler().component.spec
    keeps = inserting or (isinstance(spec, SamplerSpec) and "background" in spec.needs)
    if resolved.background is not None and not keeps:
        warnings.append(
            f"background: the photograph is not used, because the sampler {spec.name} makes the whole image; insert "
            "with recipes/insert.yaml (in Python: Framework.insert)"
        )
    return warnings
