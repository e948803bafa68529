from acme_ellipse import sigma_register_controls
from sigma_framework.testing import ControlConformance, PluginConformance


class TestEllipse(ControlConformance):
    (spec,) = sigma_register_controls()
    options = {"scale": 0.9}
    geometries = [{"xyxy": [8, 8, 56, 40]}]


class TestPlugin(PluginConformance):
    module = "acme_ellipse"
