"""What every plugin is held to, whatever kinds it registers."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import ClassVar, get_type_hints

from sigma_framework.hookspecs import ENTRY_POINT_GROUP, PLUGIN_API
from sigma_framework.plugin_host import PluginHost
from sigma_framework.provenance import Component
from sigma_framework.specs import BackboneSpec, ControlSpec, MetricSpec
from sigma_framework.testing.component import require

HEAVY_PACKAGES = ("torch", "lightning", "diffusers", "peft", "transformers", "scipy")
"""What registering must not import: listing plugins and checking a recipe stay fast."""

_LOADS_NOTHING_HEAVY = """
import importlib, sys
from sigma_framework.plugin_host import PluginHost
host = PluginHost()
host.register(importlib.import_module({module!r}))
print(" ".join(name for name in {heavy!r} if name in sys.modules))
"""


class PluginConformance:
    """Inherit and set ``module``, the module that the entry point names."""

    module: ClassVar[str]
    """E.g. ``acme_ellipse`` or ``sigma_controls.plugin``."""

    def components(self) -> Sequence[Component]:
        """What the plugin registers, through a host of its own."""
        require(self, "module")
        host = PluginHost()
        host.register(importlib.import_module(self.module), distribution="under-test")
        return host.components()

    def test_it_registers_something(self) -> None:
        assert self.components(), "no hook gave a spec"

    def test_it_is_found_by_its_entry_point(self) -> None:
        require(self, "module")
        modules = [entry_point.value for entry_point in entry_points(group=ENTRY_POINT_GROUP)]
        assert self.module in modules, (
            f"no entry point of {ENTRY_POINT_GROUP!r} names {self.module!r}; installed ones name {sorted(modules)}"
        )

    def test_it_was_made_for_this_api(self) -> None:
        require(self, "module")
        made_for = getattr(importlib.import_module(self.module), "SIGMA_PLUGIN_API", PLUGIN_API)
        assert made_for == PLUGIN_API, f"SIGMA_PLUGIN_API: found {made_for}, expected {PLUGIN_API}"

    def test_listing_it_imports_nothing_heavy(self) -> None:
        require(self, "module")
        script = _LOADS_NOTHING_HEAVY.format(module=self.module, heavy=HEAVY_PACKAGES)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.strip(), (
            f'registering imports {done.stdout.strip()}; name factories as text: "package.module:Class"'
        )

    def test_schemas_can_be_read(self) -> None:
        for component in self.components():
            for schema in _schemas(component):
                assert dataclasses.is_dataclass(schema), f"{component.name}: {schema!r} is no dataclass"
                hints = get_type_hints(schema, include_extras=True)
                unnamed = [field.name for field in dataclasses.fields(schema) if field.name not in hints]
                assert not unnamed, f"{component.name}: {schema.__name__} has fields without a type: {unnamed}"

    def test_default_options_are_valid(self) -> None:
        for component in self.components():
            config = component.spec.config
            required = [
                field.name
                for field in dataclasses.fields(config)
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            ]
            if not required:
                assert isinstance(config(), config), f"{component.name}: the defaults are refused"

    def test_factories_can_be_loaded(self) -> None:
        for component in self.components():
            factory = component.spec.load_factory()
            assert callable(factory), f"{component.name}: {factory!r} is not callable"


def _schemas(component: Component) -> list[type]:
    """Every dataclass that a user's text is checked against."""
    spec = component.spec
    schemas = [spec.config]
    if isinstance(spec, ControlSpec):
        schemas.append(spec.geometry)
    if isinstance(spec, BackboneSpec | MetricSpec):
        schemas += [objective.options for objective in spec.objectives.values()]
    return schemas
