"""Registers the two sampling loops of the paper, and the baselines that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_framework import SamplerSpec, hookimpl
from sigma_samplers.config import (
    BlendedInsertionConfig,
    GenerateConfig,
    InsertAnythingConfig,
    IterativeInsertionConfig,
    KontextDepthControlnetConfig,
)

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_samplers() -> Iterable[SamplerSpec]:
    """Each is imported only when a recipe uses it."""
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
    yield SamplerSpec(
        name="iterative_insertion",
        config=IterativeInsertionConfig,
        factory="sigma_samplers.iterative_insertion:IterativeInsertionSampler",
        summary="baseline: one subject after another into the growing picture, with the same backbone",
        needs=frozenset({"subjects"}),
    )
    yield SamplerSpec(
        name="insert_anything",
        config=InsertAnythingConfig,
        factory="sigma_samplers.insert_anything:InsertAnythingSampler",
        summary="baseline: FLUX.1 Fill on a diptych with Redux, one subject after another (section 4.3)",
        needs=frozenset({"subjects"}),
    )
    yield SamplerSpec(
        name="kontext_depth_controlnet",
        config=KontextDepthControlnetConfig,
        factory="sigma_samplers.kontext_depth_controlnet:KontextDepthControlnetSampler",
        summary="baseline: the base with references alone, depth through the backbone's ControlNet (section 4.3)",
    )
