"""A host with small made-up components, and recipes written on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sigma_framework import (
    AnnotatorSpec,
    BackboneSpec,
    ControlSpec,
    DataSourceSpec,
    MetricSpec,
    ObjectiveSpec,
    SamplerSpec,
    hookimpl,
)
from sigma_framework.plugin_host import PluginHost

WriteRecipe = Callable[[str, Mapping[str, Any] | str], Path]
SHIPPED = Path("/made-up/pocket/adapter")
"""What the base calls ``pocket``."""


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Nothing to set."""


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Options of the base."""

    weights: str = "small"
    folder: Path | None = None
    width: int = 8


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    """Options of the box control."""

    grow_px: int = 0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.grow_px < 0:
            raise ValueError(f"grow_px must be at least 0, found {self.grow_px}")


@dataclass(frozen=True, kw_only=True)
class BlendConfig:
    """Options of the second sampler."""

    start: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Options of the base's own objective."""

    width: int


class MadeUpComponents:
    """One small plugin with a component of every kind."""

    @hookimpl
    def sigma_register_backbones(self) -> list[BackboneSpec]:
        pretrain = ObjectiveSpec(options=PretrainOptions, factory=lambda *given: given, summary="from scratch")
        return [
            BackboneSpec(
                name="base",
                config=BaseConfig,
                factory=lambda config: config,
                summary="a base",
                licence="free",
                objectives={"pretrain": pretrain},
                explain=lambda config, facts: {"tokens": facts["subjects"] * config.width},
                adapters=lambda config: {} if config.weights == "large" else {"pocket": SHIPPED},
            )
        ]

    @hookimpl
    def sigma_register_controls(self) -> list[ControlSpec]:
        return [
            ControlSpec(
                name=name, config=BoxConfig, geometry=NoOptions, factory=lambda config: config, summary=f"a {name}"
            )
            for name in ("box", "shape")
        ]

    @hookimpl
    def sigma_register_datasources(self) -> list[DataSourceSpec]:
        return [
            DataSourceSpec(
                name="few",
                config=NoOptions,
                factory=lambda config: "few",
                summary="few",
                min_subjects=1,
                max_subjects=2,
            ),
            DataSourceSpec(
                name="many",
                config=NoOptions,
                factory=lambda config: "many",
                summary="many",
                min_subjects=3,
                max_subjects=9,
            ),
        ]

    @hookimpl
    def sigma_register_samplers(self) -> list[SamplerSpec]:
        return [
            SamplerSpec(name="plain", config=NoOptions, factory=lambda config: "plain", summary="plain"),
            SamplerSpec(name="blend", config=BlendConfig, factory=lambda config: config, summary="blend"),
        ]

    @hookimpl
    def sigma_register_metrics(self) -> list[MetricSpec]:
        return [MetricSpec(name="score", config=NoOptions, factory=lambda config: "score", summary="score")]

    @hookimpl
    def sigma_register_annotators(self) -> list[AnnotatorSpec]:
        maker = AnnotatorSpec(
            name="maker", config=NoOptions, factory=lambda config: "maker", summary="m", writes=frozenset({"target"})
        )
        reader = AnnotatorSpec(
            name="reader", config=NoOptions, factory=lambda config: "reader", summary="r", reads=frozenset({"target"})
        )
        return [maker, reader]


@pytest.fixture
def host() -> PluginHost:
    """The made-up components and nothing else."""
    host = PluginHost()
    host.register(MadeUpComponents(), name="made-up", distribution="Made_Up", version="1.0")
    return host


@pytest.fixture
def shipped() -> Path:
    """Where the adapter lies that the base calls ``pocket``."""
    return SHIPPED


@pytest.fixture
def write_recipe(tmp_path: Path) -> WriteRecipe:
    """Writes a recipe file below the test's folder, from data or from text."""

    def write(name: str, content: Mapping[str, Any] | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(dict(content), sort_keys=False))
        return path

    return write


@pytest.fixture
def generate() -> dict[str, Any]:
    """The smallest recipe that generates."""
    return {"task": "generate", "backbone": {"type": "base"}, "sampler": {"type": "plain", "steps": 4}}


@pytest.fixture
def train(generate: dict[str, Any]) -> dict[str, Any]:
    """The smallest recipe that trains."""
    return {
        **generate,
        "task": "train",
        "controls": {"wide": {"type": "box", "grow_px": 3}},
        "granularities": {"boxes": {"control": "wide"}},
        "datasources": {"main": {"type": "many"}},
        "stages": {"s1": {"steps": 10}, "s2": {"steps": 5, "subjects": {"min": 5}}},
    }
