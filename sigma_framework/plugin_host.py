"""Finds plugins, keeps what they register, and says whose each component is. Knows no plugin by name.

A host is a value that its owner passes on; there is none at module level. One broken plugin never hides another:
each entry point is loaded in its own ``try``, rolled back when anything about it is wrong, and kept as a record.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from sigma_framework import hookspecs
from sigma_framework.errors import PluginError, Problem, SigmaError, listed, nearest_name
from sigma_framework.hookspecs import ENTRY_POINT_GROUP, HOOK_OF_KIND, PLUGIN_API, PROJECT
from sigma_framework.provenance import BrokenPlugin, Component, Provider, normalised
from sigma_framework.specs import KINDS, SPEC_OF_KIND, ComponentSpec, Kind

logger = logging.getLogger(__name__)

STRICT_VARIABLE = "SIGMA_STRICT_PLUGINS"
"""Environment variable: ``1`` makes a broken plugin or a conflict an error at discovery (for CI)."""

_LONGEST_REASON = 300
"""Characters of a plugin's own error message that are kept."""


class PluginHost:
    """The components of a set of plugins.

    Attributes:
        broken: plugins that could not be used, with reasons.
        disabled: plugins that were left out on request.
    """

    def __init__(self) -> None:
        """An empty host; it discovers nothing unless asked."""
        self._plugins = pluggy.PluginManager(PROJECT)
        self._plugins.add_hookspecs(hookspecs)
        self._components: list[Component] = []
        self.broken: list[BrokenPlugin] = []
        self.disabled: list[Provider] = []

    @classmethod
    def discover(cls, disable: Iterable[str] = (), strict: bool | None = None) -> PluginHost:
        """A host with every installed plugin, in the order (distribution, entry point).

        Args:
            disable: distribution or entry-point names to leave out; they are not even imported.
            strict: raise for a broken plugin or a conflict; None asks the environment (``SIGMA_STRICT_PLUGINS=1``).

        Raises:
            PluginError: strict, and something is wrong; all of it is named.
        """
        host = cls()
        refused = {normalised(name) for name in disable}
        for provider, entry_point in _installed():
            if {provider.distribution, normalised(provider.entry_point)} & refused:
                host.disabled.append(provider)
                continue
            host._admit(provider, entry_point.load)
        if os.environ.get(STRICT_VARIABLE) == "1" if strict is None else strict:
            host._raise_if_imperfect()
        return host

    def register(self, plugin: object, *, name: str = "", distribution: str = "local", version: str = "0") -> None:
        """Adds one module or object with hook implementations; for tests and programs.

        Raises:
            PluginError: the plugin is broken; nothing of it is kept.
        """
        module = str(getattr(plugin, "__name__", type(plugin).__name__))
        provider = Provider(
            distribution=normalised(distribution), version=version, entry_point=name or module, module=module
        )
        broken = self._admit(provider, lambda: plugin)
        if broken:
            self.broken.remove(broken)
            raise PluginError(f"plugin {broken}")

    def components(self) -> Sequence[Component]:
        """Everything registered, by kind and name."""
        return sorted(self._components, key=lambda c: (KINDS.index(c.kind), c.name, c.provider.key))

    def conflicts(self) -> Mapping[tuple[Kind, str], Sequence[Component]]:
        """Names that more than one plugin registers, with all their providers."""
        claims: dict[tuple[Kind, str], list[Component]] = {}
        for component in self.components():
            claims.setdefault((component.kind, component.name), []).append(component)
        return {claim: rivals for claim, rivals in claims.items() if len(rivals) > 1}

    def specs(self, kind: Kind) -> Mapping[str, ComponentSpec]:
        """The specs of one kind by name, without the names that two plugins claim."""
        contested = self.conflicts()
        return {c.name: c.spec for c in self.components() if c.kind == kind and (kind, c.name) not in contested}

    def resolve(self, kind: Kind, reference: str) -> Component:
        """The component that a recipe means by ``name`` or ``dist:name``.

        Raises:
            PluginError: no such component (with the nearest name, what there is, and broken plugins that may hold
                it), or two plugins claim the bare name (with both, and what to write instead).
        """
        distribution, _, name = reference.rpartition(":")
        found = [c for c in self.components() if c.kind == kind and c.name == name]
        if distribution:
            found = [c for c in found if c.provider.distribution == normalised(distribution)]
        if not found:
            raise PluginError(self._unknown(kind, reference, name))
        if len(found) > 1:
            raise PluginError(_contested(kind, name, found))
        return found[0]

    def make(self, component: Component, *arguments: Any) -> Any:
        """Builds a component: ``factory(*arguments)``; heavy packages are imported here and not before.

        Raises:
            PluginError: a package is missing (with the extra that brings it, where the spec names one), or the
                factory cannot be loaded.
        """
        return build_with(component.spec.load_factory, component, *arguments)

    def _admit(self, provider: Provider, load: Callable[[], object]) -> BrokenPlugin | None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                self._components.extend(self._read(provider, load()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._plugins.has_plugin(provider.key):
                self._plugins.unregister(name=provider.key)
            broken = BrokenPlugin(provider=provider, reason=_reason(error))
            self.broken.append(broken)
            logger.warning("plugin %s could not be used; the others work", broken)
            return broken
        return None

    def _read(self, provider: Provider, plugin: object) -> list[Component]:
        """The plugin's components; raises whatever is wrong with it."""
        theirs = getattr(plugin, "SIGMA_PLUGIN_API", PLUGIN_API)
        if theirs != PLUGIN_API:
            advice = "upgrade sigma-framework" if _is_newer(theirs) else "upgrade the plugin"
            raise _Fault(f"made for plugin API {theirs!r}, expected {PLUGIN_API}; {advice}")
        if self._plugins.is_registered(plugin):
            raise _Fault(f"loads what is already registered as {self._plugins.get_name(plugin)}")
        self._plugins.register(plugin, name=provider.key)
        self._plugins.check_pending()
        found: list[Component] = []
        implementations = 0
        for kind in KINDS:
            hook = getattr(self._plugins.hook, HOOK_OF_KIND[kind])
            for implementation in hook.get_hookimpls():
                if implementation.plugin is plugin:
                    implementations += 1
                    specs = _specs_of(kind, implementation)
                    found.extend(Component(spec=spec, provider=provider) for spec in specs)
        if not implementations:
            raise _Fault(
                f"found no hook, expected a function with @hookimpl named one of {listed(HOOK_OF_KIND.values())}"
            )
        self._refuse_repeats(found, provider)
        return found

    def _refuse_repeats(self, found: Sequence[Component], provider: Provider) -> None:
        """One distribution may give a name once: ``dist:name`` could not choose between two."""
        seen = {(c.kind, c.name) for c in self._components if c.provider.distribution == provider.distribution}
        for component in found:
            if (component.kind, component.name) in seen:
                raise _Fault(f"registers {component.kind} {component.name!r} a second time")
            seen.add((component.kind, component.name))

    def _unknown(self, kind: Kind, reference: str, name: str) -> str:
        known = [c for c in self.components() if c.kind == kind]
        names = sorted({c.name for c in known})
        parts = [f"no {kind} named '{reference}', expected one of: {listed(names)}"]
        elsewhere = [c.kind for c in self.components() if c.name == name and c.kind != kind]
        providers = [c.qualified for c in known if c.name == name]
        if nearest := nearest_name(name, names):
            parts.append(f"did you mean {listed(providers)}?" if providers else nearest)
        if elsewhere:
            parts.append(f"'{name}' is a {elsewhere[0]}")
        parts += [f"a plugin that may provide it could not be loaded: {broken}" for broken in self.broken]
        parts += [f"a plugin that may provide it is switched off: {provider}" for provider in self.disabled]
        return "; ".join(parts)

    def _raise_if_imperfect(self) -> None:
        problems = [Problem(str(broken.provider), broken.reason) for broken in self.broken]
        problems += [Problem(name, _contested(kind, name, rivals)) for (kind, name), rivals in self.conflicts().items()]
        if problems:
            raise PluginError("plugins", problems)


def build_with(load: Callable[[], Callable[..., Any]], component: Component, *arguments: Any) -> Any:
    """Calls the factory that ``load`` gives, with missing packages and bad factories charged to the component's plugin.

    Raises:
        PluginError: see ``PluginHost.make``.
    """
    place = f"{component.kind} '{component.name}' of {component.provider}"
    try:
        factory = load()
    except SigmaError:
        raise
    except ModuleNotFoundError as error:
        raise PluginError(_missing(place, component, error)) from error
    except (ImportError, AttributeError, TypeError) as error:
        raise PluginError(f"{place} cannot be built: {_reason(error)}") from error
    try:
        return factory(*arguments)
    except ModuleNotFoundError as error:
        raise PluginError(_missing(place, component, error)) from error
    except SigmaError:
        raise
    except Exception as error:
        error.add_note(f"while building {place}")
        raise


class _Fault(Exception):
    """What is wrong with a plugin, already worded."""


def _installed() -> list[tuple[Provider, EntryPoint]]:
    found = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        distribution = entry_point.dist
        provider = Provider(
            distribution=normalised(distribution.name) if distribution and distribution.name else "unknown",
            version=distribution.version if distribution else "unknown",
            entry_point=entry_point.name,
            module=entry_point.value,
        )
        found.append((provider, entry_point))
    return sorted(found, key=lambda pair: (pair[0].distribution, pair[0].entry_point))


def _specs_of(kind: Kind, implementation: Any) -> list[ComponentSpec]:
    """What one hook implementation returns, checked."""
    hook, expected = HOOK_OF_KIND[kind], SPEC_OF_KIND[kind]
    if implementation.hookwrapper or implementation.wrapper:
        raise _Fault(f"{hook} is a wrapper, expected a plain hook")
    returned = implementation.function()
    if isinstance(returned, (str, bytes, Mapping)) or not isinstance(returned, Iterable):
        raise _Fault(f"{hook} returned {type(returned).__name__}, expected an iterable of {expected.__name__}")
    specs = list(returned)
    for spec in specs:
        if not isinstance(spec, expected):
            raise _Fault(f"{hook} gave a {type(spec).__name__}, expected {expected.__name__}")
    return specs


def _reason(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, _Fault):
        return str(error)
    if isinstance(error, SystemExit):
        return f"tried to exit (SystemExit: {error.code})"
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    hook = re.search(r"unknown hook '(\w+)'", text)
    if hook:
        remedy = nearest_name(hook[1], HOOK_OF_KIND.values()) or f"hooks: {listed(HOOK_OF_KIND.values())}"
        return f"unknown hook '{hook[1]}'; {remedy}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_newer(version: object) -> bool:
    return isinstance(version, int) and version > PLUGIN_API


def _contested(kind: Kind, name: str, rivals: Sequence[Component]) -> str:
    providers = " and ".join(str(rival.provider) for rival in rivals)
    choices = " or ".join(f"'{rival.qualified}'" for rival in rivals)
    return (
        f"{kind} '{name}' is provided by {len(rivals)} plugins, {providers}; "
        f"write {choices}, or list one of them under plugins.disable"
    )


def _missing(place: str, component: Component, error: ModuleNotFoundError) -> str:
    """A missing package: the extra to install, unless it is the plugin's own module that is missing."""
    package = (error.name or "").partition(".")[0]
    own = {component.provider.module.partition(":")[0].partition(".")[0]}
    if isinstance(component.spec.factory, str):
        own.add(component.spec.factory.partition(":")[0].partition(".")[0])
    if component.spec.extra and package not in own:
        install = f"pip install '{component.provider.distribution}[{component.spec.extra}]'"
        return f"{place} needs the package '{package}', which is not installed; run {install}"
    return f"{place} cannot be built: {_reason(error)}"
