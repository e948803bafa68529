"""The kit that every backbone is held to, on a tiny checkpoint of FLUX.2 klein's architecture."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigma_backbones import plugin
from sigma_framework.testing import BackboneConformance


class TestFlux2Klein(BackboneConformance):
    (spec,) = (spec for spec in plugin.sigma_register_backbones() if spec.name == "flux2_klein")

    @pytest.fixture(autouse=True)
    def use_tiny_weights(self, klein_folder: Path) -> None:
        self.options = {"weights": str(klein_folder), "device": "cpu"}
