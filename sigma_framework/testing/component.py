"""What every kind of component is held to; the other conformance classes build on this one."""

from __future__ import annotations

import math
import pickle
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_framework.dataclass_schema import build
from sigma_framework.specs import ComponentSpec
from sigma_framework.types import DepthRaster, FileContent


class ComponentConformance:
    """Inherited by the class of each kind; a plugin's test sets ``spec`` and, where needed, ``options``."""

    spec: ClassVar[Any]
    """The spec record that the plugin registers."""
    options: ClassVar[Mapping[str, Any]] = {}
    """What a recipe would write in the component's block, without ``type``."""
    protocol: ClassVar[type]
    """The protocol of the kind; set by the kit."""

    def make_config(self) -> Any:
        """``options`` as the recipe reader would check them."""
        checked = build(self.spec.config, self.options, self.spec.name)
        assert not checked.problems, "options: " + "; ".join(map(str, checked.problems))
        return checked.value

    def make(self) -> Any:
        """A fresh component."""
        return self.spec.load_factory()(self.make_config())

    def test_spec_is_a_record_of_its_kind(self) -> None:
        assert isinstance(self.spec, ComponentSpec), f"spec: found {self.spec!r}, expected a spec record"
        assert len(self.spec.summary) <= 120, "summary: one line of at most 120 characters is listed to people"

    def test_config_is_frozen(self) -> None:
        parameters = self.spec.config.__dataclass_params__
        assert parameters.frozen, f"{self.spec.config.__name__} must be a frozen dataclass: workers share it"

    def test_unknown_option_is_refused(self) -> None:
        checked = build(self.spec.config, {**self.options, "no_such_option": 1}, self.spec.name)
        assert [problem for problem in checked.problems if "no_such_option" in problem.where]

    def test_factory_satisfies_the_protocol(self) -> None:
        made = self.make()
        missing = [name for name in _members(self.protocol) if not hasattr(made, name)]
        assert not missing, f"{type(made).__name__} lacks {', '.join(missing)} of {self.protocol.__name__}"
        assert isinstance(made, self.protocol)


def _members(protocol: type) -> list[str]:
    return sorted(name for name in vars(protocol) if not name.startswith("_") or name in ("__len__", "__getitem__"))


@contextmanager
def untouched_global_randomness() -> Iterator[None]:
    """Fails when the block draws from a global generator of ``random``, NumPy or (where it is imported) torch."""
    torch = sys.modules.get("torch")
    before = random.getstate(), pickle.dumps(np.random.get_state()), torch and torch.get_rng_state().clone()
    yield
    assert random.getstate() == before[0], "draws from the global `random`; use the generator that is given"
    assert pickle.dumps(np.random.get_state()) == before[1], "draws from NumPy's global generator; use the one given"
    if torch is not None and before[2] is not None:
        assert torch.equal(torch.get_rng_state(), before[2]), "draws from torch's global generator; use the one given"


def same(one: Any, other: Any) -> bool:
    """Equality all the way down through records, sequences and arrays (NaN equals NaN)."""
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if is_dataclass(one) and not isinstance(one, type):
        return type(one) is type(other) and all(
            same(getattr(one, item.name), getattr(other, item.name)) for item in fields(one)
        )
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def frozen_arrays(value: Any) -> Any:
    """Makes every array in a record read-only, so that writing to it raises; gives the record back."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            frozen_arrays(getattr(value, item.name))
    elif isinstance(value, Mapping):
        for part in value.values():
            frozen_arrays(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            frozen_arrays(part)
    return value


def plain(value: Any) -> Any:
    """A record as what a scene would write: maps and lists, with arrays, depth rasters, file contents as they are."""
    if is_dataclass(value) and not isinstance(value, (type, DepthRaster, FileContent)):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def require(instance: object, name: str) -> None:
    """Fails with an instruction when a test class did not set what the kit needs."""
    if not hasattr(type(instance), name):
        pytest.fail(f"{type(instance).__name__} must set `{name}`", pytrace=False)
