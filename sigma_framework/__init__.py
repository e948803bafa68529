"""sigma_framework: controllable multi-subject image generation that keeps identities.

Everything a plugin needs is exported here; ``Framework`` is loaded when it is first asked for, so that importing
this package stays cheap (no torch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sigma_framework.conditioning.augment import dilate_mask, draw_dilation, jitter_box
from sigma_framework.conditioning.identity_image import square_on_white
from sigma_framework.errors import (
    DataError,
    PluginError,
    Problem,
    RecipeError,
    RunError,
    SceneError,
    SigmaError,
    WeightsError,
)
from sigma_framework.hookspecs import PLUGIN_API, hookimpl
from sigma_framework.protocols import (
    AdapterDimmer,
    Annotator,
    AttentionReader,
    Backbone,
    ControlEncoder,
    DataSource,
    Metric,
    Objective,
    Sampler,
    SelfPlacing,
)
from sigma_framework.scene import Scene, Subject
from sigma_framework.shards.reader import ShardSet
from sigma_framework.specs import (
    AnnotatorSpec,
    BackboneSpec,
    ControlSpec,
    DataSourceSpec,
    ImageSizes,
    MetricSpec,
    ObjectiveSpec,
    SamplerSpec,
)
from sigma_framework.types import (
    Box3D,
    Camera,
    Canvas,
    ControlImages,
    ControlLayer,
    DepthRaster,
    Example,
    FileContent,
    OnStep,
    Raster,
    Result,
    SampleRequest,
    SceneFile,
    SubjectAnnotation,
    SubjectPictures,
    TextTokens,
    Tokens,
)

if TYPE_CHECKING:
    from sigma_framework.framework import Framework

__version__ = "0.1.0"

__all__ = [
    "PLUGIN_API",
    "AdapterDimmer",
    "Annotator",
    "AnnotatorSpec",
    "AttentionReader",
    "Backbone",
    "BackboneSpec",
    "Box3D",
    "Camera",
    "Canvas",
    "ControlEncoder",
    "ControlImages",
    "ControlLayer",
    "ControlSpec",
    "DataError",
    "DataSource",
    "DataSourceSpec",
    "DepthRaster",
    "Example",
    "FileContent",
    "Framework",
    "ImageSizes",
    "Metric",
    "MetricSpec",
    "Objective",
    "ObjectiveSpec",
    "OnStep",
    "PluginError",
    "Problem",
    "Raster",
    "RecipeError",
    "Result",
    "RunError",
    "SampleRequest",
    "Sampler",
    "SamplerSpec",
    "Scene",
    "SceneError",
    "SceneFile",
    "SelfPlacing",
    "ShardSet",
    "SigmaError",
    "Subject",
    "SubjectAnnotation",
    "SubjectPictures",
    "TextTokens",
    "Tokens",
    "WeightsError",
    "dilate_mask",
    "draw_dilation",
    "hookimpl",
    "jitter_box",
    "square_on_white",
]


def __getattr__(name: str) -> Any:
    if name == "Framework":
        from sigma_framework.framework import Framework

        return Framework
    raise AttributeError(f"module 'sigma_framework' has no attribute {name!r}")
