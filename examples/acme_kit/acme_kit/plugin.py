"""Registers four components; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from acme_kit.config import DiscConfig, DiscGeometry, DiscsConfig, MidpointConfig, MixerConfig
from sigma_framework import BackboneSpec, ControlSpec, DataSourceSpec, SamplerSpec, hookimpl

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_controls() -> Iterable[ControlSpec]:
    yield ControlSpec(
        name="acme_disc",
        config=DiscConfig,
        geometry=DiscGeometry,
        factory="acme_kit.control:DiscControl",
        summary="a disc, given by centre and radius",
    )


@hookimpl
def sigma_register_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="acme_mixer",
        config=MixerConfig,
        factory="acme_kit.backbone:MixerBackbone",
        summary="a few thousand weights on 4 x 4 patches",
        size_multiple=4,
        licence="Apache-2.0",
    )


@hookimpl
def sigma_register_datasources() -> Iterable[DataSourceSpec]:
    yield DataSourceSpec(
        name="acme_discs",
        config=DiscsConfig,
        factory="acme_kit.data:Discs",
        summary="one or two coloured discs on grey",
        max_subjects=2,
    )


@hookimpl
def sigma_register_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(
        name="acme_midpoint",
        config=MidpointConfig,
        factory="acme_kit.sampler:MidpointSampler",
        summary="second-order steps: two predictions each",
    )
