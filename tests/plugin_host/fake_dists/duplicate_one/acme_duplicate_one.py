"""Registers a name that another distribution registers too."""

from collections.abc import Iterable
from dataclasses import dataclass

from sigma_framework import MetricSpec, hookimpl


@dataclass(frozen=True, kw_only=True)
class EmptyConfig:
    """No options."""


@hookimpl
def sigma_register_metrics() -> Iterable[MetricSpec]:
    yield MetricSpec(name="acme_twice", config=EmptyConfig, factory=lambda config: "one", summary="from one")
