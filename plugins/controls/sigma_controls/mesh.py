"""``mesh``: a GLB or OBJ with a pose in space, its silhouette and the depth of its visible surface (Figure 1)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sigma_controls.box3d import rotation_matrix
from sigma_controls.config import MeshConfig
from sigma_controls.depth import extend_depth
from sigma_controls.geometry import MeshGeometry
from sigma_controls.mask import checked_mask
from sigma_controls.mesh_file import read_triangles
from sigma_controls.z_buffer import NEAREST_METRES, draw_triangles
from sigma_framework import Camera, Canvas, ControlLayer, FileContent, SubjectAnnotation, dilate_mask, draw_dilation

FARTHEST_METRES = 1e6
"""Corners farther away than this are taken for a wrong unit."""

_Array = NDArray[np.float64]
_Whole = NDArray[np.int64]

_UPRIGHT = {
    "y": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),  # glTF: y up, front +z
    "z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),  # z up, front -y
}
"""The file's axes in the camera's (x right, y down, z forward), the front towards the viewer."""


@dataclass(frozen=True)
class MeshControl:
    """The region is the mesh's silhouette, the depth that of the first surface each ray meets (section 3.4)."""

    config: MeshConfig = field(default_factory=MeshConfig)
    """Augmentation."""

    def encode(self, geometry: MeshGeometry, canvas: Canvas) -> ControlLayer:
        """Silhouette and depth (metres along z).

        Raises:
            ValueError: a file that cannot be used, or a mesh behind the camera, outside the image, or between pixels.
        """
        if not isinstance(geometry.file, FileContent):
            raise ValueError(f"file: found {type(geometry.file).__name__}, expected a mesh file's content")
        corners, triangles = read_triangles(geometry.file)
        with np.errstate(over="ignore", invalid="ignore"):
            posed = pose(corners, triangles, geometry)[triangles]
        reach = np.abs(posed).max()
        if not reach <= FARTHEST_METRES:
            raise ValueError(
                f"the mesh reaches {reach:.3g} m from the camera, at most {FARTHEST_METRES:.0g}; set scale"
            )
        if posed[:, :, 2].max() <= NEAREST_METRES:
            raise ValueError(f"the mesh is behind the camera (z up to {posed[:, :, 2].max():.2f} m); z points forward")
        z = draw_triangles(posed, canvas)
        region = np.isfinite(z)
        if not region.any():
            size = f"{canvas.width}x{canvas.height}"
            raise ValueError(f"the mesh is outside the image of {size} pixels, or between pixels{_where(posed)}")
        depth = np.where(region, z, 0.0).astype(np.float32)
        return ControlLayer(region=region, depth=depth, depth_kind="metric")

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> MeshGeometry:
        """The subject's visible surface as a mesh: a facet per pixel of the mask, dilated by a random radius."""
        if subject.depth is None:
            raise ValueError("mesh: the annotation has no depth")
        mask = checked_mask(subject.mask, canvas)
        dilated = dilate_mask(mask, draw_dilation(rng, canvas.size_hw, self.config.dilate_fraction))
        corners, triangles = relief(extend_depth(subject.depth, mask, dilated), dilated, canvas.camera)
        content = write_glb(corners @ _UPRIGHT["y"], triangles)  # the matrix is its own inverse
        return MeshGeometry(file=FileContent(name="relief.glb", content=content), position=(0.0, 0.0, 0.0))


def pose(corners: _Array, triangles: _Whole, geometry: MeshGeometry) -> _Array:
    """(V, 3) corners in camera coordinates, metres."""
    upright = corners @ _UPRIGHT[geometry.up].T
    anchor = np.zeros(3)
    if geometry.anchor != "origin":
        used = upright[triangles].reshape(-1, 3)
        low, high = used.min(axis=0), used.max(axis=0)
        anchor = (low + high) / 2
        if geometry.anchor == "bottom":
            anchor[1] = high[1]  # y points down
    turned = (upright - anchor) * geometry.scale @ rotation_matrix(geometry.rotation).T
    return np.asarray(turned + np.asarray(geometry.position))


def relief(depth: NDArray[np.float32], mask: NDArray[np.bool_], camera: Camera) -> tuple[_Array, _Whole]:
    """A square facet over each pixel of the mask, parallel to the image, at its depth.

    Returns:
        (4 n, 3) corners in camera coordinates, metres, and (2 n, 3) triangles.
    """
    rows, columns = np.nonzero(mask)
    z = depth[rows, columns].astype(np.float64)
    if not (np.isfinite(z) & (z > NEAREST_METRES)).all():
        raise ValueError("mesh: the annotation's depth is not finite and positive on the mask")
    u = columns[:, None] + np.array([0, 1, 1, 0])
    v = rows[:, None] + np.array([0, 0, 1, 1])
    points = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)], axis=2)
    first = 4 * np.arange(len(z))[:, None, None]
    triangles = (first + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return (points * z[:, None, None]).reshape(-1, 3), triangles


def write_glb(corners: _Array, triangles: _Whole) -> bytes:
    """A GLB of one mesh: float32 corners, 32-bit indices; the same bytes for the same mesh."""
    positions, indices = corners.astype("<f4"), triangles.astype("<u4")
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": positions.nbytes}]
    views.append({"buffer": 0, "byteOffset": positions.nbytes, "byteLength": indices.nbytes})
    limits = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 4}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(positions), "type": "VEC3", **limits},
            {"bufferView": 1, "componentType": 5125, "count": indices.size, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": positions.nbytes + indices.nbytes}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = positions.tobytes() + indices.tobytes()
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _where(posed: _Array) -> str:
    """Where a mesh that cannot be seen is, for the message."""
    middle = (posed.min(axis=(0, 1)) + posed.max(axis=(0, 1))) / 2
    size = np.ptp(posed.reshape(-1, 3), axis=0)
    place = ", ".join(f"{value:.3g}" for value in middle)
    return f"; it is {', '.join(f'{value:.3g}' for value in size)} m large around [{place}]"
