"""A resolved scene through its control encoders: layers, ``I^C``, and the blocks of ``I^S``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sigma_framework.conditioning.control_image import PROPOSED, ComposedControl, Composition, compose
from sigma_framework.conditioning.identity_image import PADDING, square_on_white
from sigma_framework.errors import PluginError, Problem, SceneError
from sigma_framework.protocols import ControlEncoder
from sigma_framework.scene import ResolvedScene
from sigma_framework.types import Canvas, ControlLayer, RgbImage


def encode_subjects(resolved: ResolvedScene, encoders: Mapping[str, ControlEncoder]) -> list[ControlLayer]:
    """One layer per subject, in paste order.

    Args:
        resolved: the scene.
        encoders: by the control names that the scene uses.

    Raises:
        SceneError: every geometry that makes no sense on the canvas.
        PluginError: an encoder gave something else than a layer of the canvas's size.
    """
    layers: list[ControlLayer] = []
    problems: list[Problem] = []
    for index, subject in enumerate(resolved.subjects):
        try:
            layer = encoders[subject.control].encode(subject.geometry, resolved.canvas)
        except ValueError as error:
            problems.append(Problem(f"subjects[{index}].control", str(error)))
            continue
        check_layer(layer, resolved.canvas, subject.control)
        layers.append(layer)
    if problems:
        raise SceneError(resolved.scene.origin, problems)
    return layers


def check_layer(layer: object, canvas: Canvas, control: str) -> None:
    """Raises ``PluginError`` unless an encoder's result is a layer of the canvas's size."""
    if not isinstance(layer, ControlLayer):
        raise PluginError(f'control "{control}": encode gave {type(layer).__name__}, expected ControlLayer')
    region, depth = layer.region, layer.depth
    if not isinstance(region, np.ndarray) or region.dtype != np.bool_ or region.shape != canvas.size_hw:
        found = f"{getattr(region, 'shape', None)} {getattr(region, 'dtype', type(region).__name__)}"
        raise PluginError(f'control "{control}": encode gave a region {found}, expected {canvas.size_hw} bool')
    if depth is not None and (not isinstance(depth, np.ndarray) or depth.shape != canvas.size_hw):
        found = getattr(depth, "shape", type(depth).__name__)
        raise PluginError(f'control "{control}": encode gave depth {found}, expected {canvas.size_hw}')


def compose_scene(
    resolved: ResolvedScene, encoders: Mapping[str, ControlEncoder], composition: Composition = PROPOSED
) -> ComposedControl:
    """``I^C`` of a scene; raises ``SceneError`` in the scene's name."""
    layers = encode_subjects(resolved, encoders)
    names = [subject.name for subject in resolved.subjects]
    limits = resolved.scene.structure_range
    try:
        return compose(
            layers,
            names,
            resolved.canvas,
            structure=resolved.structure,
            structure_range=limits,
            composition=composition,
        )
    except SceneError as error:
        raise SceneError(resolved.scene.origin, error.problems) from None


def identity_blocks(resolved: ResolvedScene, size: int, padding: float = PADDING) -> Sequence[RgbImage]:
    """One (size, size, 3) uint8 block per subject."""
    return [square_on_white(subject.identity, size, subject.cutout, padding) for subject in resolved.subjects]
