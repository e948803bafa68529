"""The colour of a subject's surface: texture, Lambert, a little highlight, darker towards the ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.toybox.looks import Look
from sigma_datasources.toybox.place import Light
from sigma_datasources.toybox.solids import SOLIDS
from sigma_datasources.toybox.textures import PATTERNS, surface_coordinates

Array = NDArray[np.float32]

_SKY_SHARE = 0.34
"""How much of the ambient light comes from above rather than from everywhere."""


def albedo(look: Look, points: Array, normals: Array) -> Array:
    """(3, P) base colours.

    Args:
        look: the identity.
        points: (3, P) surface points in the solid's own frame, before proportions.
        normals: (3, P) unit normals along the solid's own axes.
    """
    solid = SOLIDS[look.solid]
    main = np.asarray(look.main, np.float32)[:, None]
    if look.texture == "plain":
        return np.broadcast_to(main, points.shape)
    half = np.asarray(look.half_sizes, np.float32)
    sized = points * (np.asarray(look.proportions, np.float32) / half.mean())[:, None]
    u, v = surface_coordinates(sized, normals, solid.wrap, solid.flat_ends, look.cells)
    if look.texture != "ringed":
        u, v = u + np.float32(look.phase[0]), v + np.float32(look.phase[1])
    share = PATTERNS[look.texture](u, v, points[1] * np.float32(1 / solid.extents[1]))
    return main + (np.asarray(look.second, np.float32)[:, None] - main) * share


def shade(
    base: Array, normals: Array, towards_eye: Array, *, gloss: float, light: Light, light_direction: Array, up: Array
) -> Array:
    """(3, P) lit colours, may exceed 1.

    Args:
        base: (3, P) albedo.
        normals: (3, P) unit.
        towards_eye: (3, P) unit.
        gloss: strength of the highlight.
        light: strength and tint.
        light_direction: (3,) unit, towards the light, in the frame of the normals.
        up: (3,) unit, in the same frame.
    """
    facing = light_direction @ normals
    lit = np.maximum(facing, 0)
    ambient = light.ambient * (1 - _SKY_SHARE + _SKY_SHARE * (up @ normals))
    strength = ambient + np.float32(light.direct) * lit
    mirrored = 2 * facing * (normals * towards_eye).sum(axis=0) - light_direction @ towards_eye
    shine = np.maximum(mirrored, 0)
    for _ in range(4):  # to the 16th
        shine = shine * shine
    shine *= np.float32(gloss * light.direct) * (facing > 0)
    tint = np.asarray(light.tint, np.float32)[:, None]
    return (base * strength + shine) * tint
