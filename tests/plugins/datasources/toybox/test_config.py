"""Options of toybox: what is refused, and what the plugin registers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sigma_datasources import plugin
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import DataSource


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"count": -1}, "count"),
        ({"image_size": 16}, "image_size"),
        ({"image_size": (4096, 128)}, "width of image_size"),
        ({"identity_size": 4}, "identity_size"),
        ({"min_subjects": 0}, "min_subjects"),
        ({"max_subjects": 11}, "max_subjects"),
        ({"min_subjects": 5, "max_subjects": 4}, "max_subjects"),
        ({"holdout": "shapes"}, "split test"),
        ({"holdout": "colours", "split": "test", "same_colour": True}, "same_colour"),
        ({"holdout": "textures", "split": "test", "same_colour": True}, "max_subjects"),
    ],
)
def test_senseless_options_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        ToyboxConfig(**options)


def test_all_problems_come_at_once():
    with pytest.raises(ValueError, match=r"seed.*identity_size.*min_subjects"):
        ToyboxConfig(seed=-1, identity_size=1, min_subjects=0)


def test_image_size_is_width_then_height():
    assert ToyboxConfig(image_size=(160, 96)).size_hw == (96, 160)


def test_plugin_registers_a_source_that_keeps_the_protocol():
    spec = {spec.name: spec for spec in plugin.sigma_register_datasources()}["toybox"]
    assert (spec.min_subjects, spec.max_subjects) == (1, 10)
    source = spec.load_factory()(spec.config(count=2))
    assert isinstance(source, ToyboxSource)
    assert isinstance(source, DataSource)


def test_registering_imports_no_renderer():
    code = (
        "import sys; from sigma_datasources import plugin; list(plugin.sigma_register_datasources());"
        "sys.exit(any(name in sys.modules for name in ('torch', 'sigma_datasources.toybox.source')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
