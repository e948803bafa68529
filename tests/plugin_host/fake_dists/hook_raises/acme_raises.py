"""Its second hook fails after its first has given a component."""

from collections.abc import Iterable
from dataclasses import dataclass

from sigma_framework import ControlSpec, MetricSpec, hookimpl


@dataclass(frozen=True, kw_only=True)
class EmptyConfig:
    """No options."""


@hookimpl
def sigma_register_controls() -> Iterable[ControlSpec]:
    yield ControlSpec(
        name="acme_first", config=EmptyConfig, geometry=EmptyConfig, factory=dict, summary="must be rolled back"
    )


@hookimpl
def sigma_register_metrics() -> Iterable[MetricSpec]:
    raise RuntimeError("the network is down")
