"""What a plugin's tests import: conformance classes to inherit, toys to feed them, a tiny backbone.

Needs pytest; torch is imported only by what samples or encodes, so a control's author needs none.
"""

import pytest

for _module in ("component", "annotator", "backbone", "control", "datasource", "metric", "plugin", "sampler"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from sigma_framework.testing.annotator import AnnotatorConformance
from sigma_framework.testing.backbone import BackboneConformance
from sigma_framework.testing.control import ControlConformance
from sigma_framework.testing.datasource import DataSourceConformance
from sigma_framework.testing.metric import MetricConformance
from sigma_framework.testing.plugin import PluginConformance
from sigma_framework.testing.sampler import SamplerConformance
from sigma_framework.testing.tiny_backbone import TINY_SPEC, TinyBackbone, TinyConfig
from sigma_framework.testing.toy_shards import toy_shards
from sigma_framework.testing.toys import (
    ToySource,
    toy_canvas,
    toy_example,
    toy_identity,
    toy_request,
    toy_result,
    toy_scene,
    toy_subject,
    toy_subjects,
)

__all__ = [
    "TINY_SPEC",
    "AnnotatorConformance",
    "BackboneConformance",
    "ControlConformance",
    "DataSourceConformance",
    "MetricConformance",
    "PluginConformance",
    "SamplerConformance",
    "TinyBackbone",
    "TinyConfig",
    "ToySource",
    "toy_canvas",
    "toy_example",
    "toy_identity",
    "toy_request",
    "toy_result",
    "toy_scene",
    "toy_shards",
    "toy_subject",
    "toy_subjects",
]
