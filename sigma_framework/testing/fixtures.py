"""Fixtures for plugin authors: ``pytest_plugins = ["sigma_framework.testing.fixtures"]`` in a ``conftest.py``."""

from __future__ import annotations

import pytest

from sigma_framework.plugin_host import PluginHost
from sigma_framework.testing.tiny_backbone import TinyBackbone
from sigma_framework.testing.toys import ToySource


@pytest.fixture
def plugin_host() -> PluginHost:
    """An empty host: ``plugin_host.register(my_plugin)``."""
    return PluginHost()


@pytest.fixture
def toy_backbone() -> TinyBackbone:
    """A fresh tiny backbone (needs torch)."""
    return TinyBackbone()


@pytest.fixture
def toy_source() -> ToySource:
    """Twelve examples of one to three balls."""
    return ToySource()
