"""The kit that third parties inherit, applied to everything this distribution registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from sigma_annotators.plugin import sigma_register_annotators
from sigma_backbones.plugin import sigma_register_backbones
from sigma_controls.plugin import sigma_register_controls
from sigma_datasources.plugin import sigma_register_datasources
from sigma_framework import FileContent
from sigma_framework.plugin_host import PluginHost
from sigma_framework.specs import ComponentSpec
from sigma_framework.testing import (
    ControlConformance,
    DataSourceConformance,
    MetricConformance,
    PluginConformance,
    SamplerConformance,
)
from sigma_framework.testing.component import ComponentConformance
from sigma_metrics.plugin import sigma_register_metrics
from sigma_samplers.plugin import sigma_register_samplers

TESTED_ELSEWHERE = {
    "subject_filter": "tests/plugins/annotators/test_subject_filter.py",
    "distinct_prompts": "tests/plugins/annotators/test_distinct_prompts.py",
    "dreambooth": "tests/plugins/datasources/test_dreambooth.py",
    "reference_cutouts": "tests/plugins/datasources/test_dreambooth.py",
    "photographs": "tests/plugins/datasources/test_photographs.py",
    "plain_prompts": "tests/plugins/annotators/test_classical.py",
    "cutout_identities": "tests/plugins/annotators/test_classical.py",
    "template_prompts": "tests/plugins/annotators/test_classical.py",
    "colour_segmenter": "tests/plugins/annotators/test_classical.py",
    "box_fitter": "tests/plugins/annotators/test_classical.py",
    "prompt_writer": "tests/plugins/annotators/learned/test_prompt_writer.py",
    "captioner": "tests/plugins/annotators/learned/test_captioner.py",
    "text_to_image": "tests/plugins/annotators/learned/test_pictures.py",
    "segmenter": "tests/plugins/annotators/learned/test_segmenter.py",
    "depth": "tests/plugins/annotators/learned/test_depth.py",
    "reposer": "tests/plugins/annotators/learned/test_pictures.py",
    "toybox_image": "tests/plugins/datasources/toybox/test_annotators.py",
    "toybox_reposer": "tests/plugins/datasources/toybox/test_annotators.py",
    "toybox_oracle_depth": "tests/plugins/datasources/toybox/test_annotators.py",
    "flux_kontext": "tests/plugins/backbones",
    "flux2_klein": "tests/plugins/backbones/flux2_klein",
    "sigma_set": "tests/plugins/datasources/sigma_set",
    "dino_i": "tests/plugins/metrics/test_field_measures.py",
    "siglip_i": "tests/plugins/metrics/test_field_measures.py",
    "siglip_t": "tests/plugins/metrics/test_field_measures.py",
    "depth_mse": "tests/plugins/metrics/test_field_measures.py",
    "clip_iqa": "tests/plugins/metrics/test_field_measures.py",
    "musiq": "tests/plugins/metrics/test_musiq.py",
    "any_insertion": "tests/plugins/datasources/any_insertion",
    "musar_gen": "tests/plugins/datasources/musar_gen",
    "iterative_insertion": "tests/plugins/samplers/test_baselines.py",
    "insert_anything": "tests/plugins/samplers/test_baselines.py",
    "kontext_depth_controlnet": "tests/plugins/backbones/test_kontext_depth_controlnet.py",
}
"""Components that need a folder, records or weights of their own; their tests inherit the kit, too."""


def named(specs: Iterable[ComponentSpec]) -> Mapping[str, Any]:
    """Specs by name."""
    return {spec.name: spec for spec in specs}


CONTROLS = named(sigma_register_controls())
SAMPLERS = named(sigma_register_samplers())
METRICS = named(sigma_register_metrics())
SOURCES = named(sigma_register_datasources())
TETRAHEDRON = b"v -1 -1 0\nv 1 -1 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 2 3 4\nf 1 3 4\n"


class TestControlsPlugin(PluginConformance):
    module = "sigma_controls.plugin"


class TestBackbonesPlugin(PluginConformance):
    module = "sigma_backbones.plugin"


class TestDatasourcesPlugin(PluginConformance):
    module = "sigma_datasources.plugin"


class TestSamplersPlugin(PluginConformance):
    module = "sigma_samplers.plugin"


class TestMetricsPlugin(PluginConformance):
    module = "sigma_metrics.plugin"


class TestMask(ControlConformance):
    spec = CONTROLS["mask"]


class TestDepth(ControlConformance):
    spec = CONTROLS["depth"]


class TestBox2D(ControlConformance):
    spec = CONTROLS["box2d"]
    geometries = ({"xyxy": [3, 4, 40.5, 30]}, {"xyxy": [-5, -5, 12, 12]}, {"xyxy": [50, 30, 90, 90]})


class TestBox3D(ControlConformance):
    spec = CONTROLS["box3d"]
    geometries = (
        {"center": [0, 0, 4], "size": [1, 1, 1]},
        {"center": [0.4, -0.2, 4], "size": [1, 1, 1.4], "rotation": [0, 30, 0]},
        {"center": [1.8, 0, 4], "size": [1, 1, 1], "rotation": [10, 20, 30]},
    )


class TestMesh(ControlConformance):
    spec = CONTROLS["mesh"]
    geometries = (
        {"file": FileContent(name="face.obj", content=TETRAHEDRON), "position": [0, 0, 4]},
        {
            "file": FileContent(name="face.obj", content=TETRAHEDRON),
            "position": [1.8, 0, 4],
            "rotation": [10, 20, 30],
            "scale": 0.5,
            "anchor": "bottom",
            "up": "z",
        },
    )


class TestGenerate(SamplerConformance):
    spec = SAMPLERS["generate"]


class TestBlendedInsertion(SamplerConformance):
    spec = SAMPLERS["blended_insertion"]


class TestBlendedInsertionFromTheMiddle(SamplerConformance):
    spec = SAMPLERS["blended_insertion"]
    options = {"start": 0.6}
    steps = 2


class TestPsnr(MetricConformance):
    spec = METRICS["psnr"]


class TestPsnrOfSubjects(MetricConformance):
    spec = METRICS["psnr"]
    options = {"subjects_only": True}


class TestSsim(MetricConformance):
    spec = METRICS["ssim"]


class TestToybox(DataSourceConformance):
    spec = SOURCES["toybox"]
    options = {"image_size": 64, "identity_size": 32}


def test_no_component_goes_without_the_kit() -> None:
    ours = [c for c in PluginHost.discover().components() if c.provider.distribution == "sigma-framework"]
    covered = {
        value.spec.name
        for value in globals().values()
        if isinstance(value, type) and issubclass(value, ComponentConformance) and hasattr(value, "spec")
    }
    missing = {component.name for component in ours} - covered - set(TESTED_ELSEWHERE)
    assert not missing, f"inherit a conformance class for {sorted(missing)}"


@pytest.mark.parametrize("hook", [sigma_register_annotators, sigma_register_backbones])
def test_what_is_tested_elsewhere_exists(hook: Any) -> None:
    assert {spec.name for spec in hook()} <= set(TESTED_ELSEWHERE)


class TestRoutingAccuracy(MetricConformance):
    spec = METRICS["routing_accuracy"]


class TestConfusion(MetricConformance):
    spec = METRICS["confusion"]


class TestMissingSubjects(MetricConformance):
    spec = METRICS["missing_subjects"]


class TestIdentitySimilarity(MetricConformance):
    spec = METRICS["identity_similarity"]


class TestRegionIou(MetricConformance):
    spec = METRICS["region_iou"]


class TestJudgeDepthMse(MetricConformance):
    spec = METRICS["judge_depth_mse"]


class TestBackgroundChange(MetricConformance):
    spec = METRICS["background_change"]
