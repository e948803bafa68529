"""Toybox against what every data source is held to, drawn anew and from its cache."""

from __future__ import annotations

from typing import ClassVar

import pytest

from sigma_datasources import plugin
from sigma_framework import DataSourceSpec
from sigma_framework.testing import DataSourceConformance

SPEC = next(iter(plugin.sigma_register_datasources()))
OPTIONS = {"count": 5, "image_size": 64, "identity_size": 32}


class TestToybox(DataSourceConformance):
    spec: ClassVar[DataSourceSpec] = SPEC
    options: ClassVar[dict[str, object]] = OPTIONS


class TestCachedToybox(DataSourceConformance):
    spec: ClassVar[DataSourceSpec] = SPEC
    options: ClassVar[dict[str, object]] = OPTIONS

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(type(self), "options", {**OPTIONS, "cache": str(tmp_path)})
