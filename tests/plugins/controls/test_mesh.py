"""The mesh control against the box control's exact rays, and against files that are wrong on purpose."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sigma_controls import mesh_file, z_buffer
from sigma_controls.box3d import Box3DControl, box_corners
from sigma_controls.config import MeshConfig
from sigma_controls.geometry import Box3DGeometry, MeshGeometry
from sigma_controls.mesh import MeshControl, write_glb
from sigma_controls.plugin import sigma_register_controls
from sigma_controls.z_buffer import draw_triangles
from sigma_framework import (
    Box3D,
    Camera,
    Canvas,
    FileContent,
    Scene,
    SceneError,
    SceneFile,
    Subject,
    SubjectAnnotation,
)
from sigma_framework.conditioning.scene_layers import compose_scene
from sigma_framework.dataclass_schema import build
from sigma_framework.testing.toys import toy_subjects

WIDTH, HEIGHT = 48, 40
CANVAS = Canvas(width=WIDTH, height=HEIGHT, camera=Camera.from_fov_y(50, WIDTH, HEIGHT))
OFF_CENTRE = Canvas(width=WIDTH, height=HEIGHT, camera=Camera(fx=50, fy=40, cx=20.25, cy=23.5))
CUBE = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
FACES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


def glb(corners: np.ndarray = CUBE, faces: np.ndarray = FACES) -> FileContent:
    return FileContent(name="thing.glb", content=write_glb(corners, faces))


def obj(corners: np.ndarray = CUBE, faces: np.ndarray = FACES, head: str = "") -> FileContent:
    lines = [head] if head else []
    lines += [f"v {x!r} {y!r} {z!r}" for x, y, z in corners.tolist()]
    lines += ["f " + " ".join(str(index + 1) for index in face) for face in faces.tolist()]
    return FileContent(name="thing.OBJ", content="\n".join(lines).encode())


def edited(**changes: object) -> FileContent:
    """A cube's GLB whose description is changed: lists of maps are merged into the first entry."""
    content = glb().content
    size = struct.unpack("<I", content[12:16])[0]
    tree, rest = json.loads(content[20 : 20 + size]), content[20 + size :]
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(tree.get(key), list):
            tree[key][0] |= value
        else:
            tree[key] = value
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + rest
    return FileContent(name="thing.glb", content=struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def drawn(geometry: object, canvas: Canvas, control: object) -> tuple[np.ndarray, np.ndarray]:
    """Region and depth; nothing where the control finds no pixel."""
    try:
        layer = control.encode(geometry, canvas)
    except ValueError as error:
        assert "behind the camera" in str(error) or "outside the image" in str(error)
        return np.zeros(canvas.size_hw, np.bool_), np.zeros(canvas.size_hw, np.float32)
    return layer.region, layer.depth


def on_an_edge(box: Box3D, canvas: Canvas) -> np.ndarray:
    """(H, W) bool: pixels whose centre lies within 0.001 pixels of an edge's picture: either may be right."""
    near = np.zeros(canvas.size_hw, np.bool_)
    ends = box_corners(box)
    rows, columns = np.indices(canvas.size_hw) + 0.5
    camera = canvas.camera
    for one in range(8):
        for other in (one ^ 1, one ^ 2, one ^ 4):
            a, b = ends[one], ends[other]
            normal = np.cross(a, b)  # the plane of the edge and the camera
            across = (
                (columns - camera.cx) / camera.fx * normal[0] + (rows - camera.cy) / camera.fy * normal[1] + normal[2]
            )
            slope = np.hypot(normal[0] / camera.fx, normal[1] / camera.fy)
            near |= np.abs(across) <= 1e-3 * slope
    return near


BOXES = st.builds(
    Box3DGeometry,
    center=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-0.5, 6)),
    size=st.tuples(*[st.floats(0.2, 3)] * 3),
    rotation=st.tuples(*[st.floats(-180, 180)] * 3),
)


@settings(max_examples=40, deadline=None)
@given(BOXES, st.sampled_from([CANVAS, OFF_CENTRE]))
def test_a_box_as_a_mesh_is_the_box_control(geometry: Box3DGeometry, canvas: Canvas) -> None:
    """Boxes beside, behind and around the camera included."""
    mesh = MeshGeometry(file=obj(CUBE * geometry.size), position=geometry.center, rotation=geometry.rotation)
    wanted, metres = drawn(geometry, canvas, Box3DControl())
    region, depth = drawn(mesh, canvas, MeshControl())
    sure = ~on_an_edge(geometry.box, canvas)
    assert np.array_equal(region[sure], wanted[sure])
    both = region & wanted & sure
    assert depth[both] == pytest.approx(metres[both], rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 20))
def test_no_ray_slips_between_neighbours(seed: int, distance: float) -> None:
    """A plane of many triangles that share corners has no hole, and one depth."""
    rng = np.random.default_rng(seed)
    across = np.linspace(-1, 1, 14) * distance * 2
    x, y = np.meshgrid(across, across)
    x[1:-1, 1:-1] += rng.uniform(-0.1, 0.1, (12, 12)) * distance
    y[1:-1, 1:-1] += rng.uniform(-0.1, 0.1, (12, 12)) * distance
    points = np.stack([x, y, np.full_like(x, distance)], axis=2).reshape(-1, 3)
    first = (np.arange(13)[:, None] * 14 + np.arange(13)).ravel()
    faces = np.concatenate([first[:, None] + [0, 1, 15], first[:, None] + [0, 15, 14]])
    z = draw_triangles(points[faces], CANVAS)
    assert np.isfinite(z).all() and z == pytest.approx(distance, rel=1e-12)


def test_large_and_small_triangles_and_strips_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform([-2, -2, -1], [2, 2, 6], (60, 3, 3))
    whole = draw_triangles(corners, CANVAS)
    monkeypatch.setattr(z_buffer, "_BLOCK", 64)
    assert np.array_equal(draw_triangles(corners, CANVAS), whole)
    one_by_one = np.min([draw_triangles(corners[k : k + 1], CANVAS) for k in range(60)], axis=0)
    assert np.array_equal(one_by_one, whole)
    assert np.array_equal(draw_triangles(corners[:, ::-1], CANVAS) < np.inf, whole < np.inf)
    monkeypatch.setattr(z_buffer, "MAX_TESTS", 1000)
    with pytest.raises(ValueError, match="covers the image about"):
        draw_triangles(corners, CANVAS)


def test_a_frontal_box_is_exact_in_both_formats() -> None:
    canvas = Canvas(width=40, height=40, camera=Camera(fx=40, fy=40, cx=20, cy=20))
    for file in (glb(), obj(), obj(head="mtllib ../../secrets.mtl\nusemtl gold")):
        layer = MeshControl().encode(MeshGeometry(file=file, position=(0, 0, 4.5), scale=1.0), canvas)
        rows, columns = np.nonzero(layer.region)  # the front face at z = 4 spans 20 +- 5
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (15, 24, 15, 24)
        assert layer.region.sum() == 100 and (layer.depth[layer.region] == 4).all()
        assert layer.depth.dtype == np.float32 and layer.depth_kind == "metric"


def beam(tip: tuple[float, float, float]) -> np.ndarray:
    """Corners of a box 0.4 m thick that reaches from the origin to the tip."""
    axis = np.abs(tip)
    return CUBE * 0.4 * (1 - axis) + (CUBE @ axis + 0.5)[:, None] * tip


@pytest.mark.parametrize(
    ("up", "tip", "where"),
    [
        ("y", (0, 1, 0), "above"),
        ("y", (1, 0, 0), "right"),
        ("y", (0, 0, 1), "near"),
        ("z", (0, 0, 1), "above"),
        ("z", (1, 0, 0), "right"),
        ("z", (0, -1, 0), "near"),
    ],
)
def test_a_mesh_stands_upright_and_faces_the_viewer(up: str, tip: tuple[float, float, float], where: str) -> None:
    layer = MeshControl().encode(MeshGeometry(file=obj(beam(tip)), position=(0, 0, 5), up=up), CANVAS)
    rows, columns = np.nonzero(layer.region)
    found = {"above": rows.min() < 14, "right": columns.max() > 30, "near": layer.depth[layer.region].min() < 4.5}
    assert [key for key, is_so in found.items() if is_so] == [where]


def test_anchors_and_scale() -> None:
    box = obj(CUBE * [1, 2, 1] + [3, 5, 7])  # y up: its underside is at y = 4
    centre = MeshControl().encode(MeshGeometry(file=box, position=(0, 0, 6), anchor="center"), CANVAS)
    plain = MeshControl().encode(MeshGeometry(file=obj(CUBE * [1, 2, 1]), position=(0, 0, 6)), CANVAS)
    assert np.array_equal(centre.region, plain.region)
    origin = MeshControl().encode(MeshGeometry(file=box, position=(-3, 5, 13)), CANVAS)
    assert np.array_equal(origin.region, plain.region)
    bottom = MeshControl().encode(MeshGeometry(file=box, position=(0, 1, 6), anchor="bottom"), CANVAS)
    assert np.array_equal(bottom.region, plain.region)
    small = MeshGeometry(file=obj(CUBE * [100, 200, 100]), position=(0, 0, 6), scale=0.01)
    assert np.array_equal(MeshControl().encode(small, CANVAS).region, plain.region)


def test_parts_of_a_glb_are_placed_by_their_nodes() -> None:
    nodes = [{"children": [1, 2], "scale": [0.5, 0.5, 0.5]}, {"mesh": 0, "translation": [-2, 0, 0]}]
    nodes.append({"mesh": 0, "translation": [2, 0, 0]})
    file = edited(nodes=nodes)
    layer = MeshControl().encode(MeshGeometry(file=file, position=(0, 0, 5)), CANVAS)
    halves = [
        MeshControl().encode(MeshGeometry(file=glb(), position=(x, 0, 5), scale=0.5), CANVAS).region for x in (-1, 1)
    ]
    assert np.array_equal(layer.region, halves[0] | halves[1])


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (FileContent(name="a.glb", content=b"\x89PNG\r\n"), "not a GLB file"),
        (FileContent(name="a.glb", content=glb().content[:300]), "cut off or damaged"),
        (FileContent(name="a.glb", content=b"glTF" + struct.pack("<IIII", 1, 40, 4, 0) + b"\0" * 20), "is glTF 1"),
        (FileContent(name="a.glb", content=glb().content.replace(b'{"asset"', b'["asset"')), "not JSON"),
        (FileContent(name="a.obj", content=b""), "no triangles|damaged"),
        (FileContent(name="a.obj", content=b"v 0 0 0\nv 1 0 0\nl 1 2\n"), "no triangles"),
        (FileContent(name="a.obj", content=b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"), "damaged"),
        (FileContent(name="a.obj", content=b"v 0 0 0\nv 1 0 0\nv 0 nan 0\nf 1 2 3\n"), "not finite|damaged"),
        (FileContent(name="a.obj", content=bytes(range(256)) * 8), "damaged|no triangles"),
        (obj(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array([[0, 1, 2]])), "between pixels"),
        (obj(CUBE * 1e200), "set scale"),
        (edited(buffers={"uri": "../../etc/passwd"}), "refers to another file"),
        (edited(buffers={"uri": "http://example.org/a.bin"}), "refers to another file"),
        (edited(extensionsRequired=["KHR_draco_mesh_compression"]), "KHR_draco_mesh_compression, which is not read"),
        (edited(accessors={"count": 10**12}), "count is 1000000000000"),
        (edited(accessors={"count": "8"}), "count is 8"),
        (edited(accessors={"sparse": {}}), "sparse"),
        (edited(nodes=[{"children": [0]}]), "own ancestor"),
        (edited(nodes=[{"children": [1]}, {"children": [2]}, {"children": [1]}]), "missing or another's"),
        (edited(nodes=[{"children": [7]}]), "missing or another's"),
        (edited(nodes=[{}] * 10_001), "10,001 nodes"),
        (edited(nodes=3), "not a list of maps"),
        (edited(meshes=[]), "damaged|no triangles"),
    ],
)
def test_files_that_cannot_be_used_say_why(file: FileContent, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MeshControl().encode(MeshGeometry(file=file, position=(0, 0, 4)), CANVAS)


def test_a_file_of_many_copies_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"children": list(range(1, 101))}, *({"mesh": 0} for _ in range(100))]
    monkeypatch.setattr(mesh_file, "MAX_TRIANGLES", 1000)
    with pytest.raises(ValueError, match="more than 1,000 triangles"):
        mesh_file.read_triangles(edited(nodes=nodes))
    monkeypatch.setattr(mesh_file, "MAX_ALL_VALUES", 43)
    with pytest.raises(ValueError, match="more than 43 values"):
        mesh_file.read_triangles(glb())


@pytest.mark.parametrize(
    ("position", "said"),
    [((0, 0, -3), "behind the camera"), ((50, 0, 3), "outside the image"), ((0.003, 0.003, 900), "between pixels")],
)
def test_places_where_nothing_is_seen(position: tuple[float, float, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MeshControl().encode(MeshGeometry(file=glb(), position=position), CANVAS)


def test_a_mesh_over_the_border_and_around_the_camera() -> None:
    beside = MeshControl().encode(MeshGeometry(file=glb(), position=(1.2, 0, 3)), CANVAS)
    assert beside.region[:, -1].any() and not beside.region[:, :20].any()
    around = MeshControl().encode(MeshGeometry(file=glb(), position=(0, 0, 0), scale=4.0), CANVAS)
    assert around.region.all() and around.depth[20, 24] == pytest.approx(2)


def test_geometry_that_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="scale"):
        MeshGeometry(file=glb(), position=(0, 0, 3), scale=0)
    with pytest.raises(ValueError, match="finite"):
        MeshGeometry(file=glb(), position=(0, float("nan"), 3))


def test_derive_gives_the_annotated_surface_back() -> None:
    subject = toy_subjects(CANVAS)[0]
    encoder = MeshControl(MeshConfig(dilate_fraction=(0.0, 0.0)))
    layer = encoder.encode(encoder.derive(subject, CANVAS, np.random.default_rng(0)), CANVAS)
    assert np.array_equal(layer.region, subject.mask)
    assert layer.depth[subject.mask] == pytest.approx(subject.depth[subject.mask], rel=1e-6)
    wide = MeshControl(MeshConfig(dilate_fraction=(0.05, 0.05)))
    assert wide.encode(wide.derive(subject, CANVAS, np.random.default_rng(0)), CANVAS).region.sum() > subject.mask.sum()
    without = SubjectAnnotation(
        mask=subject.mask, depth=None, camera=CANVAS.camera, box2d=subject.box2d, box3d=None, caption=""
    )
    with pytest.raises(ValueError, match="no depth"):
        encoder.derive(without, CANVAS, np.random.default_rng(0))


SPECS = {spec.name: spec for spec in sigma_register_controls()}


def test_meshes_and_boxes_hide_one_another_by_depth(tmp_path: Path) -> None:
    """Two meshes that run through each other, and a box behind them: the nearest wins at every pixel."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "one.png")
    (tmp_path / "cube.glb").write_bytes(glb().content)
    (tmp_path / "plain.obj").write_bytes(obj().content)
    document = {"version": 1, "size": [WIDTH, HEIGHT], "prompt": "a room"}
    controls = [
        {"type": "mesh", "file": "cube.glb", "position": [-0.2, 0, 3], "rotation": [0, 40, 0]},
        {"type": "mesh", "file": "plain.obj", "position": [0.2, 0, 3], "rotation": [0, 10, 0]},
        {"type": "box3d", "center": [0, 0, 5], "size": [3, 1, 1]},
    ]
    subjects = [{"name": f"s{k}", "image": "one.png", "control": control} for k, control in enumerate(controls)]
    resolved = Scene.load_resolved({**document, "subjects": subjects}, SPECS, 8, base=tmp_path)
    encoders = {"mesh": MeshControl(), "box3d": Box3DControl()}
    composed = compose_scene(resolved, encoders)
    layers = [encoders[one.control].encode(one.geometry, resolved.canvas) for one in resolved.subjects]
    stack = np.stack([np.where(layer.region, layer.depth, np.inf) for layer in layers])
    nearest = stack.min(axis=0)
    inverse = np.where(np.isfinite(nearest), 1 / nearest, 0)
    seen = inverse > 0
    low, high = inverse[seen].min(), inverse[seen].max()
    wanted = np.where(seen, 26 + np.rint(229 * (inverse - low) / (high - low)), 0)
    assert np.abs(composed.spatial[:, :, 2].astype(int) - wanted).max() <= 1
    assert {int(stack[:, r, c].argmin()) for r, c in np.argwhere(seen)} == {0, 1, 2}


def test_a_scene_with_a_mesh_is_saved_and_read_again(tmp_path: Path) -> None:
    control = {"type": "mesh", "file": glb(), "position": [0, 0, 4]}
    picture = Image.new("RGB", (16, 16), "red")
    scene = Scene(
        subjects=(Subject(name="cube", image=picture, control=control),), size=(WIDTH, HEIGHT), prompt="a room"
    )
    scene.save(tmp_path / "scene.yaml")
    again = Scene.load(tmp_path / "scene.yaml").resolve(SPECS, 8)
    assert again.subjects[0].geometry.file.content == glb().content
    copied = Scene.load(tmp_path / "scene.yaml").copy_inputs(tmp_path / "run")
    assert copied.to_document()["subjects"][0]["control"]["file"].endswith(".glb")
    assert (tmp_path / "run" / copied.subjects[0].control["file"]).read_bytes() == glb().content


def test_a_field_for_a_file_says_what_it_takes() -> None:
    checked = build(MeshGeometry, {"position": [0, 0, 3]}, "control")
    assert [str(problem) for problem in checked.problems] == ["control.file: missing, expected a file (.glb, .obj)"]
    with pytest.raises(ValueError, match=r"\.exe"):
        SceneFile((".exe",))
    assert repr(glb()) == "FileContent(name='thing.glb')", "a message shows the name, not megabytes"


def test_where_a_scene_may_take_a_mesh_from(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    (tmp_path / "out.glb").write_bytes(glb().content)
    (folder / "empty.glb").write_bytes(b"")
    (folder / "cube.stl").write_bytes(b"solid")
    Image.new("RGB", (16, 16)).save(folder / "one.png")
    files = ["../out.glb", "https://example.org/a.glb", "gone.glb", "empty.glb", "cube.stl", 7]
    subjects = [
        {"name": f"s{k}", "image": "one.png", "control": {"type": "mesh", "file": file, "position": [0, 0, 3]}}
        for k, file in enumerate(files)
    ]
    with pytest.raises(SceneError) as caught:
        Scene.load_resolved({"version": 1, "size": [48, 40], "subjects": subjects}, SPECS, 8, base=folder)
    said = [str(problem) for problem in caught.value.problems]
    wanted = [
        "leaves the folder",
        "addresses are never fetched",
        "not found",
        "is empty",
        "allowed: .glb, .obj",
        "found 7",
    ]
    assert len(said) == len(wanted)
    for index, (text, part) in enumerate(zip(said, wanted, strict=True)):
        assert part in text and text.startswith(f"subjects[{index}].control.file")
