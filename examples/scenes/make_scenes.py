"""Makes the example scenes of this folder from toybox worlds: python examples/scenes/make_scenes.py

`mixed.yaml` says the place of each of four subjects by another kind of control; `insert.yaml` puts two subjects into a
picture; `boxes.yaml` uses 2D boxes alone; `meshes.yaml` arranges a GLB, an OBJ and a 3D box in space, as in Figure 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from trimesh.convex import convex_hull

from sigma_controls.mesh import write_glb
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.solids import SOLIDS
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Box3D, Camera, Example

FOLDER = Path(__file__).parent
MIXED, INSERTED, BACKGROUND, BOXES, MESHES = 4, 11, 20, 23, 58
"""Where the search for a fitting example starts, one number per scene."""


def main() -> None:
    """Writes pictures and scenes."""
    write("mixed", mixed(find(4, MIXED)))
    write("boxes", boxes(find(3, BOXES)))
    write("insert", insert(find(2, INSERTED), find(1, BACKGROUND)))
    write("meshes", meshes(find(3, MESHES)))


def find(subjects: int, start: int) -> Example:
    """The first test example from ``start`` on with so many subjects."""
    source = ToyboxSource(ToyboxConfig(split="test"))
    counts = np.asarray(source.subject_counts)
    return source[start + int(np.flatnonzero(counts[start:] == subjects)[0])]


def mixed(example: Example) -> dict[str, Any]:
    """A mask, a depth map, a 2D box and a 3D box."""
    mask, depth, flat, solid = example.subjects
    assert depth.depth is not None and solid.box3d is not None
    millimetres = np.where(depth.mask, np.rint(depth.depth * 1000), 0).astype(np.uint16)
    picture("mixed_mask.png", mask.mask)
    picture("mixed_depth_mask.png", depth.mask)
    picture("mixed_depth.png", millimetres)
    controls = [
        {"type": "mask", "file": "mixed_mask.png"},
        {"type": "depth", "mask": "mixed_depth_mask.png", "depth": "mixed_depth.png", "depth_kind": "metric_mm"},
        {"type": "box2d", "xyxy": [round(float(edge)) for edge in flat.box2d]},
        {
            "type": "box3d",
            **{key: [round(v, 3) for v in getattr(solid.box3d, key)] for key in ("center", "size", "rotation")},
        },
    ]
    return {**scene("mixed", example, controls), "camera": camera_of(solid.camera)}


def meshes(example: Example) -> dict[str, Any]:
    """Two meshes, as an image-to-3D tool would give them, and a 3D box."""
    controls: list[dict[str, Any]] = []
    for number, (one, ending) in enumerate(zip(example.subjects, ("glb", "obj", ""), strict=True), start=1):
        assert one.box3d is not None
        place = {key: [round(v, 3) for v in getattr(one.box3d, key)] for key in ("center", "size", "rotation")}
        if not ending:
            controls.append({"type": "box3d", **place})
            continue
        corners, triangles = solid_mesh(one.caption.split()[-1], one.box3d)
        file = f"meshes_{number}.{ending}"
        content = write_glb(corners, triangles) if ending == "glb" else obj_text(corners, triangles).encode()
        (FOLDER / file).write_bytes(content)
        controls.append({"type": "mesh", "file": file, "position": place["center"], "rotation": place["rotation"]})
    return {**scene("meshes", example, controls), "camera": camera_of(example.subjects[0].camera)}


def solid_mesh(name: str, box: Box3D) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) corners in metres, y up and the front +z, and (F, 3) triangles of a solid that fills a box."""
    solid = SOLIDS[name]
    hull = convex_hull(solid.cloud / solid.extents * (np.asarray(box.size) / 2))
    return np.asarray(hull.vertices) * [1, -1, -1], np.asarray(hull.faces)


def obj_text(corners: np.ndarray, triangles: np.ndarray) -> str:
    """A mesh in Wavefront's format, whose indices start at 1."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in corners]
    return "\n".join([*lines, *(f"f {a + 1} {b + 1} {c + 1}" for a, b, c in triangles)]) + "\n"


def camera_of(camera: Camera) -> dict[str, float]:
    """As a scene writes it."""
    return {key: round(getattr(camera, key), 3) for key in ("fx", "fy", "cx", "cy")}


def boxes(example: Example) -> dict[str, Any]:
    """2D boxes alone, the easiest scene to write by hand."""
    controls = [{"type": "box2d", "xyxy": [round(float(edge)) for edge in one.box2d]} for one in example.subjects]
    return scene("boxes", example, controls)


def insert(example: Example, background: Example) -> dict[str, Any]:
    """Two subjects into a picture of another place."""
    picture("insert_background.png", background.target)
    controls = [{"type": "box2d", "xyxy": [4, 60, 48, 116]}, {"type": "box2d", "xyxy": [84, 56, 126, 112]}]
    return {
        **scene("insert", example, controls),
        "prompt": background.prompt_background,
        "background": "insert_background.png",
    }


def scene(name: str, example: Example, controls: list[dict[str, Any]]) -> dict[str, Any]:
    """The document without what is special to one scene; writes the identity pictures."""
    subjects = []
    for number, (annotation, identity, control) in enumerate(
        zip(example.subjects, example.identities, controls, strict=True)
    ):
        file = f"{name}_{number + 1}.png"
        picture(file, identity)
        solid = annotation.caption.split()[-1]  # solids of the chosen examples differ, and a short name fits its region
        subjects.append({"name": solid, "image": file, "caption": annotation.caption, "control": control})
    height, width = example.target.shape[:2]
    return {"version": 1, "size": [width, height], "prompt": example.prompt_background, "subjects": subjects}


def picture(name: str, values: np.ndarray) -> None:
    """Writes one PNG into the folder."""
    Image.fromarray(values).save(FOLDER / name)


def write(name: str, document: dict[str, Any]) -> None:
    """Writes ``<name>.yaml``; the order of subjects is the paste order."""
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)
    (FOLDER / f"{name}.yaml").write_text(
        f"# Made by make_scenes.py; see docs/scenes.md for every key.\n{text}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
