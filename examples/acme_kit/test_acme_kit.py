from acme_kit.plugin import (
    sigma_register_backbones,
    sigma_register_controls,
    sigma_register_datasources,
    sigma_register_samplers,
)
from sigma_framework.testing import (
    BackboneConformance,
    ControlConformance,
    DataSourceConformance,
    PluginConformance,
    SamplerConformance,
)


class TestPlugin(PluginConformance):
    module = "acme_kit.plugin"


class TestDisc(ControlConformance):
    (spec,) = sigma_register_controls()
    geometries = [{"center": [30, 20], "radius": 12}]


class TestMixer(BackboneConformance):
    (spec,) = sigma_register_backbones()
    options = {"width": 16}


class TestDiscs(DataSourceConformance):
    (spec,) = sigma_register_datasources()


class TestMidpoint(SamplerConformance):
    (spec,) = sigma_register_samplers()
