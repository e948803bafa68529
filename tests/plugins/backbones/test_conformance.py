"""The kit that third parties inherit, on a tiny checkpoint of FLUX.1 Kontext's architecture."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigma_backbones.plugin import sigma_register_backbones
from sigma_framework.testing import BackboneConformance


class TestFluxKontext(BackboneConformance):
    (spec,) = sigma_register_backbones()
    tolerance = 1e-3

    @pytest.fixture(autouse=True)
    def _weights(self, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options = {"weights": str(tiny_folder), "device": "cpu", "dtype": "float32"}
        monkeypatch.setattr(type(self), "options", options)
