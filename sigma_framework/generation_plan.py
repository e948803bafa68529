"""What makes a recipe's images: its sampler with the built backbone and the recipe's numbers."""

from __future__ import annotations

from collections.abc import Mapping

from sigma_framework.errors import PluginError, Problem, RecipeError
from sigma_framework.generation import ImageMaker
from sigma_framework.plugin_host import PluginHost
from sigma_framework.protocols import Backbone, ControlEncoder
from sigma_framework.recipe import Recipe
from sigma_framework.specs import SamplerSpec


def plan_generation(
    recipe: Recipe, host: PluginHost, backbone: Backbone, controls: Mapping[str, ControlEncoder], inserting: bool
) -> ImageMaker:
    """Puts together what makes images.

    Args:
        recipe: a checked recipe that names a sampler.
        host: the plugins it was checked against.
        backbone: with its adapters loaded.
        controls: encoders by registered control type.
        inserting: into a photograph; a recipe made for generation then gets a sampler that keeps a background.

    Raises:
        PluginError: no registered sampler keeps a background.
        RecipeError: these weights read a guidance value, and the recipe gives none.
    """
    block = recipe.require_sampler()
    if backbone.guidance_embedded and block.guidance is None:
        what = "found null, expected a number: these weights read one"
        remedy = "write sampler.guidance=NUMBER (their model card says which, e.g. 3.5)"
        raise RecipeError(recipe.name, [Problem("sampler.guidance", what, remedy)])
    spec = _sampler_spec(recipe, host, inserting)
    own = block.component.spec is spec
    component = block.component if own else host.resolve("sampler", spec.name)
    return ImageMaker(
        backbone=backbone,
        sampler=host.make(component, block.config if own else spec.config()),
        needs=spec.needs,
        controls=controls,
        identity_size=recipe.conditioning.identity_size,
        identity_padding=recipe.conditioning.identity_padding,
        steps=block.steps,
        guidance=block.guidance if backbone.guidance_embedded else None,
        true_cfg=block.true_cfg,
        negative_prompt=block.negative_prompt,
        composition=recipe.conditioning.composition,
        facts={"sampler": spec.name, "adapters": {n: a.weight for n, a in recipe.adapters.items()}},
    )


def _sampler_spec(recipe: Recipe, host: PluginHost, inserting: bool) -> SamplerSpec:
    """The recipe's sampler, or the first that keeps a background where one is needed.

    Raises:
        PluginError: no registered sampler keeps a background.
    """
    spec = recipe.require_sampler().component.spec
    assert isinstance(spec, SamplerSpec)
    if not inserting or "background" in spec.needs:
        return spec
    for other in host.specs("sampler").values():
        if isinstance(other, SamplerSpec) and "background" in other.needs:
            return other
    raise PluginError("no registered sampler keeps a background; write `sampler: {type: ...}` of one that does")
