"""What this package registers."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_controls.config import Box2DConfig, Box3DConfig, DepthConfig, MaskConfig, MeshConfig
from sigma_controls.geometry import Box2DGeometry, Box3DGeometry, DepthGeometry, MaskGeometry, MeshGeometry
from sigma_framework import ControlSpec, hookimpl

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_controls() -> Iterable[ControlSpec]:
    """Five ways of saying where a subject stands."""
    yield ControlSpec(
        name="mask",
        config=MaskConfig,
        geometry=MaskGeometry,
        factory="sigma_controls.mask:MaskControl",
        summary="any shape, painted as a mask",
    )
    yield ControlSpec(
        name="depth",
        config=DepthConfig,
        geometry=DepthGeometry,
        factory="sigma_controls.depth:DepthControl",
        summary="a mask with depth per pixel",
        gives_depth=True,
    )
    yield ControlSpec(
        name="box2d",
        config=Box2DConfig,
        geometry=Box2DGeometry,
        factory="sigma_controls.box2d:Box2DControl",
        summary="a filled rectangle",
    )
    yield ControlSpec(
        name="box3d",
        config=Box3DConfig,
        geometry=Box3DGeometry,
        factory="sigma_controls.box3d:Box3DControl",
        summary="an oriented box in space: its silhouette and its depth",
        gives_depth=True,
    )
    yield ControlSpec(
        name="mesh",
        config=MeshConfig,
        geometry=MeshGeometry,
        factory="sigma_controls.mesh:MeshControl",
        summary="a GLB or OBJ with a pose in space: its silhouette and its depth",
        gives_depth=True,
        extra="mesh",
    )
