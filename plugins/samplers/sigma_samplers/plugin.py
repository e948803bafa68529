"""Registers the two sampling loops of the paper."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_framework import SamplerSpec, hookimpl
from sigma_samplers.config import BlendedInsertionConfig, GenerateConfig

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_samplers() -> Iterable[SamplerSpec]:
    """Both loops are imported only when a recipe uses them."""
    yield SamplerSpec(
        name="generate",
        config=GenerateConfig,
        factory="sigma_samplers.generate:GenerateSampler",
        summary="Euler steps from noise to an image (section 3)",
    )
    yield SamplerSpec(
        name="blended_insertion",
        config=BlendedInsertionConfig,
        factory="sigma_samplers.blended_insertion:BlendedInsertionSampler",
        summary="the same loop, keeping a photograph outside the subjects' regions (section 5.3)",
        needs=frozenset({"background"}),
    )
