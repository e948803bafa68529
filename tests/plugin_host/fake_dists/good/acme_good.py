"""A plugin as it should be; prints at import, which must not reach standard output."""

from collections.abc import Iterable
from dataclasses import dataclass

from sigma_framework import MetricSpec, SamplerSpec, hookimpl

SIGMA_PLUGIN_API = 1

print("hello from acme_good")


@dataclass(frozen=True, kw_only=True)
class EmptyConfig:
    """No options."""


@hookimpl
def sigma_register_metrics() -> Iterable[MetricSpec]:
    yield MetricSpec(name="acme_sharpness", config=EmptyConfig, factory="acme_good:EmptyConfig", summary="sharpness")


@hookimpl
def sigma_register_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(name="acme_heun", config=EmptyConfig, factory="acme_good_heun:Heun", summary="Heun", extra="heun")
