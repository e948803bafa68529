"""Implements a hook that there is not, besides one that there is."""

from collections.abc import Iterable
from dataclasses import dataclass

from sigma_framework import MetricSpec, hookimpl


@dataclass(frozen=True, kw_only=True)
class EmptyConfig:
    """No options."""


@hookimpl
def sigma_register_metrics() -> Iterable[MetricSpec]:
    yield MetricSpec(name="acme_half_done", config=EmptyConfig, factory=dict, summary="must be rolled back")


@hookimpl
def sigma_register_contrls() -> Iterable[object]:
    return []
