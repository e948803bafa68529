"""What every control encoder is held to."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from sigma_framework.dataclass_schema import build
from sigma_framework.protocols import ControlEncoder
from sigma_framework.specs import ControlSpec
from sigma_framework.testing.component import (
    ComponentConformance,
    frozen_arrays,
    plain,
    same,
    untouched_global_randomness,
)
from sigma_framework.testing.toys import toy_canvas, toy_subjects
from sigma_framework.types import Canvas, ControlLayer, SubjectAnnotation


class ControlConformance(ComponentConformance):
    """Inherit, set ``spec``; ``options`` where the config has required fields; ``geometries`` for your own examples."""

    spec: ClassVar[ControlSpec]
    protocol = ControlEncoder
    geometries: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """What a scene may write under ``control:`` on the canvas; pictures as arrays."""
    canvas: ClassVar[Canvas] = toy_canvas()
    """What ``geometries`` are drawn on."""

    def subjects(self) -> Sequence[SubjectAnnotation]:
        """Annotations to derive from; override when the control needs something the toys lack."""
        return toy_subjects(self.canvas)

    def derived(self) -> list[Any]:
        """One geometry per annotation, with the randomness of seed 0."""
        encoder = self.make()
        return [encoder.derive(subject, self.canvas, np.random.default_rng(0)) for subject in self.subjects()]

    def written(self) -> list[Any]:
        """``geometries`` as the scene reader would check them."""
        made = [build(self.spec.geometry, geometry, "control") for geometry in self.geometries]
        problems = [str(problem) for checked in made for problem in checked.problems]
        assert not problems, "geometries: " + "; ".join(problems)
        return [checked.value for checked in made]

    def test_geometry_is_frozen(self) -> None:
        parameters = self.spec.geometry.__dataclass_params__  # type: ignore[attr-defined]
        assert parameters.frozen, f"{self.spec.geometry.__name__} must be a frozen dataclass"

    def test_written_geometries_make_layers(self) -> None:
        encoder = self.make()
        for geometry in self.written():
            self.check_layer(encoder.encode(geometry, self.canvas))

    def test_derived_geometries_make_layers(self) -> None:
        encoder = self.make()
        for subject, geometry in zip(self.subjects(), self.derived(), strict=True):
            assert isinstance(geometry, self.spec.geometry), (
                f"derive gave {type(geometry).__name__}, expected the spec's {self.spec.geometry.__name__}"
            )
            layer = encoder.encode(geometry, self.canvas)
            self.check_layer(layer)
            assert (layer.region & subject.mask).any(), (
                "the derived region does not touch the subject it was derived from"
            )

    def test_derived_geometry_is_what_a_scene_may_write(self) -> None:
        for geometry in self.derived():
            checked = build(self.spec.geometry, plain(geometry), "control")
            assert not checked.problems, "; ".join(map(str, checked.problems))

    def test_encode_is_pure(self) -> None:
        encoder = self.make()
        for geometry in [*self.written(), *self.derived()]:
            frozen_arrays(geometry)
            with untouched_global_randomness():
                first = encoder.encode(geometry, self.canvas)
                second = encoder.encode(geometry, self.canvas)
            assert same(first, second), "equal input gave another layer"

    def test_derive_is_pure(self) -> None:
        encoder = self.make()
        for subject in self.subjects():
            frozen_arrays(subject)
            with untouched_global_randomness():
                first = encoder.derive(subject, self.canvas, np.random.default_rng(7))
                second = encoder.derive(subject, self.canvas, np.random.default_rng(7))
            assert same(first, second), "an equal annotation and an equal generator gave another geometry"

    def test_encoder_can_be_sent_to_workers(self) -> None:
        encoder = self.make()
        copy = pickle.loads(pickle.dumps(encoder))
        for geometry in self.derived():
            assert same(encoder.encode(geometry, self.canvas), copy.encode(geometry, self.canvas))

    def check_layer(self, layer: ControlLayer) -> None:
        """One layer: shapes, dtypes, a region with pixels, depth that can be used."""
        assert isinstance(layer, ControlLayer), f"encode gave {type(layer).__name__}, expected ControlLayer"
        assert layer.region.shape == self.canvas.size_hw, f"region: found {layer.region.shape}, expected (H, W)"
        assert layer.region.dtype == np.bool_, f"region: found {layer.region.dtype}, expected bool"
        assert layer.region.any(), "region: no pixel of the picture is inside"
        says_depth = layer.depth is not None
        assert says_depth == self.spec.gives_depth, (
            f"gives_depth is {self.spec.gives_depth}, but the layer {'has' if says_depth else 'has no'} depth"
        )
        if layer.depth is None:
            return
        assert layer.depth.shape == self.canvas.size_hw, f"depth: found {layer.depth.shape}, expected (H, W)"
        assert layer.depth.dtype == np.float32, f"depth: found {layer.depth.dtype}, expected float32"
        inside = layer.depth[layer.region]
        assert np.isfinite(inside).all(), "depth: not finite somewhere in the region"
        if layer.depth_kind == "metric":
            assert (inside > 0).all(), "depth: metric depth must be above 0 metres in the region"
