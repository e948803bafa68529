"""What a plugin hands over when it registers a component: small frozen records, checked when they are made."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, ClassVar, Literal

Kind = Literal["control", "backbone", "datasource", "sampler", "metric", "annotator"]
KINDS: tuple[Kind, ...] = ("control", "backbone", "datasource", "sampler", "metric", "annotator")
"""The six kinds of component, in the order they are listed to people."""

Factory = Callable[..., Any]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LAZY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """What all kinds have in common. Raises ``ValueError`` or ``TypeError`` when a field makes no sense."""

    kind: ClassVar[Kind]

    name: str
    """What recipes write as ``type:``; lower case letters, digits, underscores."""
    config: type
    """Frozen dataclass: the schema of a recipe block's options. Value checks belong into its ``__post_init__``."""
    factory: Factory | str
    """Makes the component from one config instance; ``"module:attr"`` is imported only when it is built."""
    summary: str
    """One line for ``sigma-run --plugins``."""
    extra: str | None = None
    """The optional dependency group to name when an import fails, e.g. ``data``."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} must be lower case letters, digits and underscores, and start with a letter"
            )
        require_dataclass(self.config, f"{self.name}: config")
        require_factory(self.factory, f"{self.name}: factory")
        if not isinstance(self.summary, str) or not self.summary.strip() or "\n" in self.summary:
            raise ValueError(f"{self.name}: summary must be one line of text")

    def load_factory(self) -> Factory:
        """The callable, imported now if it is lazy."""
        return resolve_factory(self.factory)


@dataclass(frozen=True, kw_only=True)
class ControlSpec(ComponentSpec):
    """A control type. ``factory(config)`` gives a ``ControlEncoder``."""

    kind: ClassVar[Kind] = "control"

    geometry: type
    """Frozen dataclass: the schema of what a scene writes under ``control:`` (without ``type``)."""
    gives_depth: bool = False
    """Whether its layers say something of depth."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_dataclass(self.geometry, f"{self.name}: geometry")


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(ComponentSpec):
    """A base model. ``factory(config)`` gives a ``Backbone``."""

    kind: ClassVar[Kind] = "backbone"

    size_multiple: int = 16
    """Image width and height must be multiples of this, pixels."""
    licence: str = ""
    """Licence of the default weights and what it forbids, one line."""
    objectives: Mapping[str, ObjectiveSpec] = field(default_factory=dict)
    """Training objectives of this base besides the adapter's, by the name a recipe writes as ``train.objective``."""
    explain: Factory | str | None = None
    """``explain(config, facts) -> dict``: token counts, parameters and memory by closed formulas, without torch."""
    sizes: Factory | str | None = None
    """``sizes(config) -> ImageSizes | None``: what these weights are made for, without torch; None: any size."""
    adapters: Factory | str | None = None
    """``adapters(config) -> Mapping[str, Path]``: adapters that come with these weights, by the name that a recipe may
    write in the place of a path; without torch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size_multiple < 1:
            raise ValueError(f"{self.name}: size_multiple must be at least 1, found {self.size_multiple}")
        for name in ("explain", "sizes", "adapters"):
            if (factory := getattr(self, name)) is not None:
                require_factory(factory, f"{self.name}: {name}")


@dataclass(frozen=True, kw_only=True)
class ImageSizes:
    """Sizes that weights are made for, pixels."""

    default: tuple[int, int]
    """Width and height of a scene that names neither a size nor a background."""
    smallest: int
    """Least width and height."""
    largest: int
    """Greatest width and height; a scene beyond the two is made, with a warning."""

    def suit(self, sides: Iterable[int]) -> bool:
        """Whether a picture of these sides is one that the weights are made for."""
        return all(self.smallest <= side <= self.largest for side in sides)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """A component's own training objective. ``factory(component_config, options, seed)`` gives an ``Objective``."""

    options: type
    """Frozen dataclass: the schema of ``train.objective_options``."""
    factory: Factory | str
    """As for components."""
    summary: str
    """One line."""

    def __post_init__(self) -> None:
        require_dataclass(self.options, "objective options")
        require_factory(self.factory, "objective factory")

    def load_factory(self) -> Factory:
        """The callable, imported now if it is lazy."""
        return resolve_factory(self.factory)


@dataclass(frozen=True, kw_only=True)
class DataSourceSpec(ComponentSpec):
    """A source of training examples. ``factory(config)`` gives a ``DataSource``."""

    kind: ClassVar[Kind] = "datasource"

    min_subjects: int = 1
    """Fewest subjects an example can have."""
    max_subjects: int = 25
    """Most subjects an example can have."""
    licence: str = ""
    """Of all that it gives, as a built set tells it, where that is known beforehand; a record may tell its own."""


@dataclass(frozen=True, kw_only=True)
class SamplerSpec(ComponentSpec):
    """A sampling loop. ``factory(config)`` gives a ``Sampler``."""

    kind: ClassVar[Kind] = "sampler"

    needs: frozenset[str] = frozenset()
    """What a request must hold besides the usual: ``background`` (and a region), ``subjects`` (each by itself)."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec(ComponentSpec):
    """A measure. ``factory(config)`` gives a ``Metric``."""

    kind: ClassVar[Kind] = "metric"

    needs: frozenset[str] = frozenset()
    """What it cannot do without: ``target`` (ground-truth image)."""
    better: Literal["higher", "lower"] = "higher"
    """Which way is better, for tables."""
    objectives: Mapping[str, ObjectiveSpec] = field(default_factory=dict)
    """Training objectives of a model that the measure looks with; usable in recipes that name the measure."""


@dataclass(frozen=True, kw_only=True)
class AnnotatorSpec(ComponentSpec):
    """A stage of data making. ``factory(config)`` gives an ``Annotator``."""

    kind: ClassVar[Kind] = "annotator"

    reads: frozenset[str] = frozenset()
    """Record keys it needs."""
    writes: frozenset[str] = frozenset()
    """Record keys it adds."""


SPEC_OF_KIND: Mapping[Kind, type[ComponentSpec]] = {
    "control": ControlSpec,
    "backbone": BackboneSpec,
    "datasource": DataSourceSpec,
    "sampler": SamplerSpec,
    "metric": MetricSpec,
    "annotator": AnnotatorSpec,
}


def resolve_factory(factory: Factory | str) -> Factory:
    """A callable as it is; ``"module:attr"`` imported."""
    if callable(factory):
        return factory
    module, _, attribute = factory.partition(":")
    resolved = getattr(importlib.import_module(module), attribute)
    if not callable(resolved):
        raise TypeError(f"{factory} is not callable")
    return resolved  # type: ignore[no-any-return]  # callable() narrows to object


def require_dataclass(value: object, what: str) -> None:
    """Raises ``TypeError`` unless ``value`` is a dataclass type."""
    if not (isinstance(value, type) and is_dataclass(value)):
        raise TypeError(f"{what} must be a dataclass, found {value!r}")


def require_factory(value: object, what: str) -> None:
    """Raises unless ``value`` is callable or ``"module:attr"``."""
    if callable(value):
        return
    if not isinstance(value, str) or not _LAZY.fullmatch(value):
        raise TypeError(f'{what} must be a callable or "module:attr", found {value!r}')
