"""GLB and OBJ files as triangles. Files come from strangers: nothing beside them is opened, and sizes have limits.

trimesh reads the geometry; what it would trust (counts, links between nodes, addresses) is looked at first.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_framework import FileContent, PluginError

MAX_TRIANGLES = 2_000_000
"""Most triangles of a file, all copies of its parts counted."""
MAX_VALUES = 3 * MAX_TRIANGLES
"""Most entries of one list in a GLB: corners, or three corners for each triangle."""
MAX_ALL_VALUES = 4 * MAX_VALUES
"""Most entries of all lists of a GLB together: lists may share bytes, so the file's size bounds nothing."""
MAX_NODES = 10_000
"""Most nodes of a GLB."""
READABLE_EXTENSIONS = ("KHR_materials", "KHR_texture", "EXT_texture", "KHR_lights", "KHR_xmp")
"""Beginnings of the glTF extensions that a file may require: they say nothing of shape."""

_Array = NDArray[np.float64]
_Whole = NDArray[np.int64]


def read_triangles(file: FileContent) -> tuple[_Array, _Whole]:
    """The file's triangles in its own axes and units, parts placed as the file says, in its rest pose.

    Returns:
        (V, 3) corners and (F, 3) indices into them.

    Raises:
        ValueError: damaged, without triangles, too large, or in need of other files.
        PluginError: trimesh is not installed.
    """
    if file.suffix == ".glb":
        _check_glb(file.content, file.name)
    scene = _load(file)
    corners: list[_Array] = []
    faces: list[_Whole] = []
    count = 0
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        part = scene.geometry[name]
        if not hasattr(part, "faces"):
            continue  # points or lines
        vertices, indices = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
        if len(faces) > MAX_NODES or sum(map(len, faces)) + len(indices) > MAX_TRIANGLES:
            raise ValueError(f'"{file.name}" has more than {MAX_TRIANGLES:,} triangles; simplify it')
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(vertices):
            raise ValueError(f'"{file.name}" is damaged: a triangle names a corner that is not there')
        corners.append(vertices @ np.asarray(transform)[:3, :3].T + np.asarray(transform)[:3, 3])
        faces.append(indices + count)
        count += len(vertices)
    if not sum(map(len, faces)):
        raise ValueError(f'"{file.name}" has no triangles')
    joined = np.concatenate(corners)
    used = np.concatenate(faces)
    if not np.isfinite(joined[used]).all():
        raise ValueError(f'"{file.name}" has corners that are not finite numbers')
    return joined, used


def _load(file: FileContent) -> Any:
    try:
        import trimesh
    except ImportError:
        raise PluginError(
            'control "mesh" needs trimesh; install it with: pip install "sigma-framework[mesh]"'
        ) from None
    try:
        # from memory and without a resolver there is no folder that a material or texture could be taken from
        return trimesh.load_scene(
            io.BytesIO(file.content), file_type=file.suffix[1:], skip_materials=True, process=False, maintain_order=True
        )
    except Exception as error:  # trimesh raises many kinds on damaged files
        reason = (str(error).splitlines() or [""])[0][:100]
        raise ValueError(
            f'"{file.name}" is a damaged {file.suffix[1:].upper()} file ({reason or "unreadable"})'
        ) from None


def _check_glb(content: bytes, name: str) -> None:
    """Raises ``ValueError`` for what would make a reader follow addresses, run for ever, or fill the memory."""
    tree = _glb_tree(content, name)
    for index, buffer in enumerate(_maps(tree, "buffers", name)):
        if "uri" in buffer:
            raise ValueError(f'"{name}" refers to another file (buffers[{index}].uri); export it as one binary GLB')
    required = tree.get("extensionsRequired", [])
    foreign = [str(one) for one in required if not str(one).startswith(READABLE_EXTENSIONS)] if required else []
    if foreign:
        raise ValueError(
            f'"{name}" requires {", ".join(foreign)[:100]}, which is not read; export it without compression'
        )
    for index, accessor in enumerate(_maps(tree, "accessors", name)):
        if not isinstance(accessor.get("count"), int) or not 0 <= accessor["count"] <= MAX_VALUES:
            found = str(accessor.get("count"))[:40]
            raise ValueError(f'"{name}": accessors[{index}].count is {found}, expected 0 to {MAX_VALUES:,}')
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError(f'"{name}": accessors[{index}] is sparse or without data, which is not read')
    if sum(accessor["count"] for accessor in _maps(tree, "accessors", name)) > MAX_ALL_VALUES:
        raise ValueError(f'"{name}" has more than {MAX_ALL_VALUES:,} values; simplify it')
    _check_nodes(_maps(tree, "nodes", name), name)


def _glb_tree(content: bytes, name: str) -> dict[str, Any]:
    """The JSON of a GLB."""
    if len(content) < 20 or content[:4] != b"glTF":
        raise ValueError(f'"{name}" is not a GLB file (starts with {content[:8]!r})')
    version, length, size, kind = struct.unpack("<IIII", content[4:20])
    if version != 2:
        raise ValueError(f'"{name}" is glTF {version}, expected 2')
    if kind != 0x4E4F534A or length > len(content) or 20 + size > length:
        raise ValueError(f'"{name}" is cut off or damaged; export or copy it again')
    try:
        tree = json.loads(content[20 : 20 + size].decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f'"{name}" is damaged: its description is not JSON') from None
    if not isinstance(tree, dict):
        raise ValueError(f'"{name}" is damaged: its description is not a map')
    return tree


def _maps(tree: dict[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    given = tree.get(key, [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ValueError(f'"{name}" is damaged: {key} is not a list of maps')
    return given


def _check_nodes(nodes: list[dict[str, Any]], name: str) -> None:
    """glTF asks for trees: each node has at most one parent, and none is its own ancestor."""
    if len(nodes) > MAX_NODES:
        raise ValueError(f'"{name}" has {len(nodes):,} nodes, at most {MAX_NODES:,} are read')
    parents: dict[int, int] = {}
    for index, node in enumerate(nodes):
        children = node.get("children", [])
        if not isinstance(children, list):
            raise ValueError(f'"{name}" is damaged: nodes[{index}].children is not a list')
        for child in children:
            if not isinstance(child, int) or not 0 <= child < len(nodes) or child in parents:
                raise ValueError(f'"{name}" is damaged: nodes[{index}] has a child that is missing or another\'s')
            parents[child] = index
    reached = [index for index in range(len(nodes)) if index not in parents]
    for index in reached:  # grows while it is walked
        reached.extend(nodes[index].get("children", []))
    if len(reached) != len(nodes):
        raise ValueError(f'"{name}" is damaged: a node is its own ancestor')
