"""Registers the base models of this package."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_backbones.flux2_klein.config import Flux2KleinConfig
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.pocket_training.options import PocketBaseOptions, PocketVaeOptions
from sigma_framework import BackboneSpec, ObjectiveSpec, hookimpl


@hookimpl
def sigma_register_backbones() -> Iterable[BackboneSpec]:
    """FLUX.1 Kontext, at full scale and as ``pocket``, and FLUX.2 klein base 4B."""
    yield BackboneSpec(
        name="flux_kontext",
        config=FluxKontextConfig,
        factory="sigma_backbones.flux_kontext.backbone:build",
        summary="FLUX.1 Kontext: pocket (shipped), a diffusers folder, or black-forest-labs/FLUX.1-Kontext-dev",
        size_multiple=16,
        licence="pocket: Apache-2.0; FLUX.1 Kontext [dev]: FLUX.1 [dev] Non-Commercial License, gated",
        objectives={
            "pocket_vae": ObjectiveSpec(
                options=PocketVaeOptions,
                factory="sigma_backbones.pocket_training.vae_objective:build_objective",
                summary="trains the pocket VAE on scenes, identities, control images and textures",
            ),
            "pocket_base": ObjectiveSpec(
                options=PocketBaseOptions,
                factory="sigma_backbones.pocket_training.base_objective:build_objective",
                summary="trains the pocket base from scratch: text to image, and one reference",
            ),
        },
        explain="sigma_backbones.flux_kontext.explain:explain",
        sizes="sigma_backbones.flux_kontext.config:image_sizes",
        adapters="sigma_backbones.flux_kontext.config:shipped_adapters",
    )
    yield BackboneSpec(
        name="flux2_klein",
        config=Flux2KleinConfig,
        factory="sigma_backbones.flux2_klein.backbone:build",
        summary="FLUX.2 klein: black-forest-labs/FLUX.2-klein-base-4B, or a diffusers folder",
        size_multiple=16,
        licence="FLUX.2 klein base 4B: Apache-2.0",
        explain="sigma_backbones.flux2_klein.explain:explain",
    )
