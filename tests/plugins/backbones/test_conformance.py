"""The kit that every backbone is held to, on a tiny checkpoint of this architecture."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigma_backbones import plugin
from sigma_framework.testing import BackboneConformance


class TestFluxKontext(BackboneConformance):
    (spec,) = (spec for spec in plugin.sigma_register_backbones() if spec.name == "flux_kontext")

    @pytest.fixture(autouse=True)
    def use_tiny_weights(self, tiny_folder: Path) -> None:
        self.options = {"weights": str(tiny_folder), "device": "cpu"}
