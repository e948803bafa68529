"""Small records to test with: a canvas, subjects, an example, a scene; NumPy alone until a request is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.protocols import Backbone
from sigma_framework.scene import Scene, Subject
from sigma_framework.types import (
    BoolMap,
    Box3D,
    Camera,
    Canvas,
    ControlImages,
    Example,
    Result,
    RgbImage,
    SampleRequest,
    SubjectAnnotation,
    SubjectPictures,
)

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, right and bottom exclusive."""

_COLOURS = ((208, 62, 48), (52, 120, 200), (64, 160, 72), (232, 188, 44), (140, 76, 176))
_NAMES = ("red ball", "blue ball", "green ball", "yellow ball", "purple ball")
_GROUND = (168, 168, 160)


def toy_canvas(width: int = 64, height: int = 48, fov_y_degrees: float = 50.0) -> Canvas:
    """A canvas with a centred pinhole camera."""
    return Canvas(width=width, height=height, camera=Camera.from_fov_y(fov_y_degrees, width, height))


def toy_subject(
    canvas: Canvas, box: Box, *, metres: float = 4.0, yaw_degrees: float = 0.0, caption: str = ""
) -> SubjectAnnotation:
    """A ball in ``box``: its mask is the ellipse inside the box, its depth bulges towards the camera.

    Args:
        canvas: the picture; what of the box lies outside is cut off.
        box: the whole ball, pixels.
        metres: depth of the ball's centre.
        yaw_degrees: turns the oriented 3D box around the upright axis.
        caption: what it is.
    """
    x0, y0, x1, y1 = box
    mask, bulge = _ellipse(canvas, box)
    camera = canvas.camera
    size = ((x1 - x0) * metres / camera.fx, (y1 - y0) * metres / camera.fy, (x1 - x0) * metres / camera.fx)
    center = (
        ((x0 + x1) / 2 - camera.cx) * metres / camera.fx,
        ((y0 + y1) / 2 - camera.cy) * metres / camera.fy,
        metres,
    )
    depth = np.where(mask, metres - bulge * min(size) / 2, 0.0).astype(np.float32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return SubjectAnnotation(
        mask=mask,
        depth=depth,
        camera=camera,
        box2d=(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)),
        box3d=Box3D(center=center, size=size, rotation=(0.0, yaw_degrees, 0.0)),
        caption=caption or "a red ball",
    )


def toy_subjects(canvas: Canvas) -> tuple[SubjectAnnotation, ...]:
    """What real annotations bring: in the middle, turned, at a border, cut by a border, tiny, and nearly everything."""
    w, h = float(canvas.width), float(canvas.height)
    return (
        toy_subject(canvas, (w * 0.3, h * 0.25, w * 0.7, h * 0.75)),
        toy_subject(canvas, (w * 0.4, h * 0.3, w * 0.9, h * 0.8), metres=3.0, yaw_degrees=30.0),
        toy_subject(canvas, (0.0, 0.0, w * 0.4, h * 0.4), metres=6.0),
        toy_subject(canvas, (w * 0.7, h * 0.4, w * 1.2, h * 0.9)),
        toy_subject(canvas, (w // 2, h // 2, w // 2 + 4, h // 2 + 4), metres=9.0),
        toy_subject(canvas, (1.0, 1.0, w - 1, h - 1), metres=2.0),
    )


def toy_example(
    subjects: int = 2, *, size_hw: tuple[int, int] = (64, 64), identity_size: int = 32, seed: int = 0
) -> Example:
    """Coloured balls side by side on grey, up to five; ``seed`` moves them a little.

    Raises:
        ValueError: ``subjects`` is not from 1 to 5.
    """
    if not 1 <= subjects <= len(_COLOURS):
        raise ValueError(f"subjects: found {subjects}, expected 1 to {len(_COLOURS)}")
    rng = np.random.default_rng(seed)
    height, width = size_hw
    canvas = toy_canvas(width, height)
    step = width / subjects
    annotations = []
    for index in range(subjects):
        top = height * rng.uniform(0.15, 0.35)
        box = (index * step + step * 0.1, top, (index + 1) * step - step * 0.1, top + height * 0.5)
        annotations.append(toy_subject(canvas, box, metres=3.0 + index, caption=f"a {_NAMES[index]}"))
    target = _painted([one.mask for one in annotations], size_hw)
    names = ", ".join(one.caption for one in annotations)
    return Example(
        target=target,
        identities=tuple(toy_identity(index, identity_size) for index in range(subjects)),
        subjects=tuple(annotations),
        prompt_full=f"{names} on a grey floor",
        prompt_background="a grey floor",
        key=f"toy-{subjects}-{seed}",
    )


def toy_identity(index: int = 0, size: int = 32) -> RgbImage:
    """(size, size, 3) uint8: ball number ``index`` on white."""
    mask, _ = _ellipse(toy_canvas(size, size), (size * 0.2, size * 0.1, size * 0.8, size * 0.9))
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[mask] = _COLOURS[index % len(_COLOURS)]
    return picture


def toy_scene(subjects: int = 2, *, size: tuple[int, int] = (64, 64), control: str = "box2d") -> Scene:
    """A scene of arrays with a 2D box per subject, side by side; ``control`` names the control that reads ``xyxy``."""
    width, height = size
    step = width / subjects
    made = [
        Subject(
            name=f"ball{index + 1}",
            image=toy_identity(index),
            caption=f"a {_NAMES[index % len(_NAMES)]}",
            control={"type": control, "xyxy": [index * step + 2, height * 0.25, (index + 1) * step - 2, height * 0.75]},
        )
        for index in range(subjects)
    ]
    return Scene(subjects=tuple(made), prompt="a grey floor", size=size)


def toy_result(images: Sequence[RgbImage], scene: Scene | None = None) -> Result:
    """A result that shows ``images``, as if a sampler had made them for ``scene``."""
    scene = scene or toy_scene()
    height, width = images[0].shape[:2]
    regions = np.zeros((len(scene.subjects), height, width), bool)
    step = width // len(scene.subjects)
    for index in range(len(scene.subjects)):
        regions[index, height // 4 : height * 3 // 4, index * step + 2 : (index + 1) * step - 2] = True
    spatial = np.zeros((height, width, 3), np.uint8)
    for index, region in enumerate(regions):
        spatial[region, :2] = 10 * (index + 1)
    controls = ControlImages(
        spatial=spatial,
        identity=np.concatenate([toy_identity(index) for index in range(len(regions))]),
        regions=regions,
        layout=_painted(list(regions), (height, width)),
    )
    return Result(
        images=tuple(Image.fromarray(image) for image in images),
        controls=controls,
        scene=scene,
        seeds=tuple(range(len(images))),
    )


def toy_request(
    backbone: Backbone,
    seeds: Sequence[int] = (0,),
    *,
    steps: int = 3,
    size_hw: tuple[int, int] = (64, 64),
    background: bool = False,
    subjects: bool = False,
) -> SampleRequest:
    """A request for one image per seed under two balls' conditions.

    With ``background`` it has a picture to insert into, with ``subjects`` each ball by itself.
    """
    import torch

    count = len(seeds)
    example = toy_example(2, size_hw=size_hw)
    shown = toy_result([example.target]).controls
    free = torch.zeros(size_hw)
    free[: size_hw[0] // 2, : size_hw[1] // 2] = 1
    return SampleRequest(
        text=backbone.encode_prompt([example.prompt_full] * count),
        conditions=(
            backbone.encode_image(_as_tensor(np.concatenate(example.identities), count), "identity"),
            backbone.encode_image(_as_tensor(shown.spatial, count), "spatial"),
        ),
        size_hw=size_hw,
        steps=steps,
        generators=tuple(torch.Generator("cpu").manual_seed(seed) for seed in seeds),
        background=_as_tensor(example.target, count) if background else None,
        region=free if background else None,
        subjects=_subject_pictures(example, shown, count) if subjects else None,
    )


def _subject_pictures(example: Example, shown: ControlImages, count: int) -> SubjectPictures:
    """Each ball alone: intensity 10 in both routing channels, its region its mask."""
    import torch

    masks = [one.mask for one in example.subjects]
    alone = [np.where(mask[..., None], np.array([10, 10, 0], np.uint8), np.uint8(0)) for mask in masks]
    return SubjectPictures(
        identities=torch.stack([_as_tensor(one, count) for one in example.identities], dim=1),
        spatials=torch.stack([_as_tensor(one, count) for one in alone], dim=1),
        spatial=_as_tensor(shown.spatial, count),
        regions=torch.from_numpy(np.stack(masks).astype(np.float32)).expand(count, -1, -1, -1),
    )


@dataclass(frozen=True, slots=True)
class ToySource:
    """A data source of toy examples, for tests of what reads data sources."""

    length: int = 12
    """Number of examples; example i has 1 + i % 3 subjects."""
    size_hw: tuple[int, int] = (64, 64)
    """Height and width of the targets, pixels."""
    identity_size: int = 32
    """Side of the identity images, pixels."""

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """1, 2, 3, 1, 2, 3, ..."""
        return np.arange(self.length, dtype=np.int64) % 3 + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The same size for all."""
        return np.tile(np.array(self.size_hw, np.int64), (self.length, 1))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is outside 0..{self.length - 1}")
        return toy_example(1 + index % 3, size_hw=self.size_hw, identity_size=self.identity_size, seed=index)


def _as_tensor(image: RgbImage, count: int):  # type: ignore[no-untyped-def]  # a torch.Tensor, without importing torch here
    """(H, W, 3) uint8 -> (count, 3, H, W) float32 in [-1, 1]."""
    import torch

    scaled = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
    return scaled.expand(count, -1, -1, -1).contiguous()


def _ellipse(canvas: Canvas, box: Box) -> tuple[BoolMap, NDArray[np.float64]]:
    """Pixels whose centre is in the ellipse, and the height of the ball over them in 0..1."""
    x0, y0, x1, y1 = box
    rows, columns = np.mgrid[: canvas.height, : canvas.width] + 0.5
    squared = ((columns - (x0 + x1) / 2) * 2 / (x1 - x0)) ** 2 + ((rows - (y0 + y1) / 2) * 2 / (y1 - y0)) ** 2
    return squared <= 1, np.sqrt(np.clip(1 - squared, 0, 1))


def _painted(masks: Sequence[BoolMap], size_hw: tuple[int, int]) -> RgbImage:
    picture = np.empty((*size_hw, 3), np.uint8)
    picture[:] = _GROUND
    for index, mask in enumerate(masks):
        picture[mask] = _COLOURS[index % len(_COLOURS)]
    return picture
