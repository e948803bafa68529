"""The six hooks a plugin may implement. All are lists: every plugin's records are collected, none wins by order."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from sigma_framework.specs import AnnotatorSpec, BackboneSpec, ControlSpec, DataSourceSpec, MetricSpec, SamplerSpec

PROJECT = "sigma_framework"
ENTRY_POINT_GROUP = "sigma_framework.plugins"
"""Where ``importlib.metadata`` finds plugins: ``[project.entry-points."sigma_framework.plugins"]``."""
PLUGIN_API = 1
"""A plugin module may say ``SIGMA_PLUGIN_API = 1``; another number than ours is reported, not guessed at."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Decorates a plugin's hook functions."""


@hookspec
def sigma_register_controls() -> Iterable[ControlSpec]:  # type: ignore[empty-body]
    """Control types: how a scene may say where and how a subject stands.

    Example::

        @hookimpl
        def sigma_register_controls():
            yield ControlSpec(name="ellipse", config=EllipseConfig, geometry=EllipseGeometry,
                              factory=EllipseControl, summary="the ellipse inside a box")
    """


@hookspec
def sigma_register_backbones() -> Iterable[BackboneSpec]:  # type: ignore[empty-body]
    """Base models.

    Example::

        @hookimpl
        def sigma_register_backbones():
            yield BackboneSpec(name="acme_dit", config=AcmeConfig, factory="acme.backbone:AcmeBackbone",
                               summary="a small transformer", size_multiple=16)
    """


@hookspec
def sigma_register_datasources() -> Iterable[DataSourceSpec]:  # type: ignore[empty-body]
    """Sources of training examples.

    Example::

        @hookimpl
        def sigma_register_datasources():
            yield DataSourceSpec(name="acme_set", config=AcmeSetConfig, factory="acme.data:AcmeSet",
                                 summary="photographs of our catalogue", min_subjects=1, max_subjects=4)
    """


@hookspec
def sigma_register_samplers() -> Iterable[SamplerSpec]:  # type: ignore[empty-body]
    """Sampling loops.

    Example::

        @hookimpl
        def sigma_register_samplers():
            yield SamplerSpec(name="heun", config=HeunConfig, factory="acme.heun:HeunSampler",
                              summary="second-order steps")
    """


@hookspec
def sigma_register_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Measures.

    Example::

        @hookimpl
        def sigma_register_metrics():
            yield MetricSpec(name="sharpness", config=SharpnessConfig, factory="acme.sharp:Sharpness",
                             summary="variance of the Laplacian")
    """


@hookspec
def sigma_register_annotators() -> Iterable[AnnotatorSpec]:  # type: ignore[empty-body]
    """Stages of data making.

    Example::

        @hookimpl
        def sigma_register_annotators():
            yield AnnotatorSpec(name="captioner", config=CaptionerConfig, factory="acme.caption:Captioner",
                                summary="one caption per subject", reads=frozenset({"target"}),
                                writes=frozenset({"captions"}))
    """


HOOK_OF_KIND = {
    "control": "sigma_register_controls",
    "backbone": "sigma_register_backbones",
    "datasource": "sigma_register_datasources",
    "sampler": "sigma_register_samplers",
    "metric": "sigma_register_metrics",
    "annotator": "sigma_register_annotators",
}
