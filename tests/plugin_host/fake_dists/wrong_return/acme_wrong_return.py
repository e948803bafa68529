"""Gives a metric where controls are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass

from sigma_framework import MetricSpec, hookimpl


@dataclass(frozen=True, kw_only=True)
class EmptyConfig:
    """No options."""


@hookimpl
def sigma_register_controls() -> Iterable[MetricSpec]:
    yield MetricSpec(name="acme_misplaced", config=EmptyConfig, factory=dict, summary="in the wrong hook")
