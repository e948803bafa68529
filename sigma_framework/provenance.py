"""Whose a component is: the records that a plugin host keeps of what it found."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sigma_framework.specs import ComponentSpec, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where a component came from."""

    distribution: str
    """Normalised distribution name, e.g. ``sigma-framework``."""
    version: str
    """The distribution's version."""
    entry_point: str
    """Name of the entry point in its group."""
    module: str
    """What the entry point loads."""

    @property
    def key(self) -> str:
        """``dist:entry-point``, the name that the plugin is registered under."""
        return f"{self.distribution}:{self.entry_point}"

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.entry_point} = {self.module})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One registered component and its origin."""

    spec: ComponentSpec
    """The plugin's record."""
    provider: Provider
    """Whose it is."""

    @property
    def kind(self) -> Kind:
        """One of ``KINDS``."""
        return self.spec.kind

    @property
    def name(self) -> str:
        """What a recipe writes as ``type:``."""
        return self.spec.name

    @property
    def qualified(self) -> str:
        """``dist:name``, unambiguous also where two plugins claim the name."""
        return f"{self.provider.distribution}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPlugin:
    """An entry point that was found and could not be used."""

    provider: Provider
    """Whose it is."""
    reason: str
    """One line: what went wrong."""

    def __str__(self) -> str:
        return f"{self.provider}: {self.reason}"


def normalised(name: str) -> str:
    """A distribution name as packaging compares it: lower case, runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()
