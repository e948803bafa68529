"""The frozen records that cross a boundary between the core and a plugin.

Conventions used everywhere: pixel (row r, column c) covers [c, c+1) x [r, r+1) and its ray goes through
(c + 0.5, r + 0.5); camera coordinates are x right, y down, z forward, in metres; boxes are x0, y0, x1, y1 with
right and bottom exclusive; t = 1 is noise. Nothing here imports torch at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from sigma_framework.scene import Scene

BoolMap = NDArray[np.bool_]
"""(H, W) bool."""
FloatMap = NDArray[np.float32]
"""(H, W) float32."""
RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

Role = Literal["target", "spatial", "identity"]
"""What an image is for the backbone: the image to be made, ``I^C`` or ``I^S``; decides its position ids."""
DepthKind = Literal["metric", "disparity"]
"""``metric``: metres along z. ``disparity``: relative inverse depth, larger is nearer."""

MAX_SUBJECTS = 25
"""Intensities go 10, 20, ... and a uint8 ends at 255 (sections 3.3, 3.4)."""
DEFAULT_FOV_Y_DEGREES = 50.0
"""Vertical field of view of a scene that names no camera."""


@dataclass(frozen=True, slots=True)
class Raster:
    """Marks a geometry field that names a picture: ``file: Annotated[Any, Raster("mask")]``.

    A scene writes a path there; the core resolves, opens and size-checks it; the encoder gets an array:
    (H, W) bool for ``mask``; for ``depth`` a ``DepthRaster``. ``ControlEncoder.derive`` puts these there directly.
    """

    reading: Literal["mask", "depth"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthRaster:
    """A depth picture after reading."""

    values: FloatMap
    """(H, W) float32: metres for ``metric``, relative inverse depth for ``disparity``. Finite where it is used."""
    kind: DepthKind
    """How to read ``values``."""


SCENE_FILE_SUFFIXES = (".glb", ".obj", ".ply", ".stl", ".bvh", ".json")
"""Endings of files, other than pictures, that a scene's control may name; by them a scene's files are found to copy."""


@dataclass(frozen=True, slots=True)
class SceneFile:
    """Marks a geometry field that names a file which is no picture: ``file: Annotated[Any, SceneFile((".glb",))]``.

    A scene writes a path there; the core finds and reads the file under the rules for pictures; the encoder gets a
    ``FileContent``. ``ControlEncoder.derive`` puts one there directly.
    """

    suffixes: tuple[str, ...]
    """Endings that are taken, lower case, each one of ``SCENE_FILE_SUFFIXES``."""
    max_bytes: int = 64 * 2**20
    """Largest file."""

    def __post_init__(self) -> None:
        unknown = [suffix for suffix in self.suffixes if suffix not in SCENE_FILE_SUFFIXES]
        if unknown or not self.suffixes:
            known = ", ".join(SCENE_FILE_SUFFIXES)
            raise ValueError(f"suffixes: found {list(self.suffixes)}, expected some of {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """A scene's file after reading."""

    name: str
    """Its name without folders; the ending tells the format."""
    content: bytes = field(repr=False)
    """All of it."""

    @property
    def suffix(self) -> str:
        """The ending in lower case, e.g. ``.glb``."""
        return PurePath(self.name).suffix.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A pinhole camera, all four numbers in pixels."""

    fx: float
    """Focal length along x, pixels."""
    fy: float
    """Focal length along y, pixels."""
    cx: float
    """Principal point, pixels from the left edge."""
    cy: float
    """Principal point, pixels from the top edge."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.fx, self.fy, self.cx, self.cy)):
            raise ValueError("camera: fx, fy, cx, cy must be finite")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"camera: fx and fy must be positive, found {self.fx}, {self.fy}")

    @classmethod
    def from_fov_y(cls, fov_y_degrees: float, width: int, height: int) -> Camera:
        """Square pixels, centred: fx = fy = height / (2 tan(fov_y / 2)), principal point in the middle."""
        if not 0 < fov_y_degrees < 180:
            raise ValueError(f"fov_y must be between 0 and 180 degrees, found {fov_y_degrees}")
        focal = height / (2 * math.tan(math.radians(fov_y_degrees) / 2))
        return cls(fx=focal, fy=focal, cx=width / 2, cy=height / 2)

    def scaled(self, factor_x: float, factor_y: float) -> Camera:
        """The same camera for a picture resized by these factors."""
        return Camera(fx=self.fx * factor_x, fy=self.fy * factor_y, cx=self.cx * factor_x, cy=self.cy * factor_y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The picture that controls are drawn on."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    camera: Camera
    """Used by 3D controls."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlLayer:
    """What one subject's control says, before the core composes all subjects into ``I^C``."""

    region: BoolMap
    """(H, W) bool: where the subject stands. At least one pixel, else the core reports an error."""
    depth: FloatMap | None = None
    """(H, W) float32 over the region's pixels (elsewhere ignored), or None when the control says nothing of depth."""
    depth_kind: DepthKind = "metric"
    """How to read ``depth``."""
    near_metres: float | None = None
    """For ``disparity``: metres of its largest value in the region; needed to mix it with metric depth."""
    far_metres: float | None = None
    """For ``disparity``: metres of its smallest value in the region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box3D:
    """An oriented box in camera coordinates."""

    center: tuple[float, float, float]
    """Metres, x right, y down, z forward."""
    size: tuple[float, float, float]
    """Full extents along the box's own axes, metres."""
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees (rx, ry, rz), R = Rz Ry Rx, about the centre."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubjectAnnotation:
    """Ground truth of one subject in a training image."""

    mask: BoolMap
    """(H, W) bool: the pixels of the subject that are visible in the image."""
    depth: FloatMap | None
    """(H, W) float32 metres along z, valid on ``mask``; None when unknown."""
    camera: Camera
    """The camera of the image, for the image's size."""
    box2d: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels, right and bottom exclusive."""
    box3d: Box3D | None
    """Oriented box around the whole subject; None when unknown."""
    caption: str
    """What it is, e.g. ``a red striped cube``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One training example of a data source."""

    target: RgbImage
    """(H, W, 3) uint8."""
    identities: tuple[RgbImage, ...]
    """One (H', W', 3) uint8 picture per subject: the same subject, another pose and light, on white."""
    subjects: tuple[SubjectAnnotation, ...]
    """Same order as ``identities``."""
    prompt_full: str
    """Names the subjects and the place."""
    prompt_background: str
    """Names the place alone."""
    key: str
    """Unique in its source; named in messages about this example."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """A sequence of image tokens."""

    values: torch.Tensor
    """(b, l, d), the backbone's packed latents."""
    ids: torch.Tensor
    """(l, k) position ids, one row per token, shared by the batch."""

    @property
    def length(self) -> int:
        """l."""
        return int(self.values.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextTokens:
    """Encoded prompts; only the backbone that made them reads them."""

    values: torch.Tensor
    """(b, l, d) token embeddings."""
    ids: torch.Tensor
    """(l, k) position ids."""
    pooled: torch.Tensor | None = None
    """(b, p), for backbones that use one vector per prompt."""


OnStep = Callable[[int, float, "dict[str, Any]"], "Mapping[str, Any] | None"]
"""Called after each step with (step, t after the step, {"latents": (b, l, d)}); may return replaced latents."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubjectPictures:
    """Pixels for samplers that place one subject after another: b images of N subjects each, in [-1, 1]."""

    identities: torch.Tensor
    """(b, N, 3, s, s): identity images on white."""
    spatials: torch.Tensor
    """(b, N, 3, h, w): ``I^C`` of each subject as if it were the only one."""
    spatial: torch.Tensor
    """(b, 3, h, w): ``I^C`` of all."""
    regions: torch.Tensor
    """(b, N, h, w) in [0, 1]: where each subject may change a picture, with a soft edge."""

    @property
    def count(self) -> int:
        """N."""
        return int(self.identities.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleRequest:
    """Everything a sampler needs for one batch of images; built by the core."""

    text: TextTokens
    """Encoded prompts, batch b."""
    negative_text: TextTokens | None = None
    """Encoded negative prompts for classifier-free guidance; None switches it off."""
    conditions: tuple[Tokens, ...] = ()
    """Encoded ``I^S`` and ``I^C``, batch b each, in the order of the token sequence."""
    size_hw: tuple[int, int]
    """Image size in pixels."""
    steps: int
    """Denoising steps, at least 1."""
    guidance: float | None = None
    """Distilled guidance value, for backbones that take one."""
    true_cfg: float = 1.0
    """Classifier-free guidance scale; 1.0 is off."""
    generators: tuple[torch.Generator, ...]
    """One per image of the batch."""
    background: torch.Tensor | None = None
    """(1 or b, 3, h, w) in [-1, 1]: the picture to keep, for samplers that need ``background``."""
    region: torch.Tensor | None = None
    """(h, w), or (b, h, w), in [0, 1]: where the picture may change, for samplers that need ``background``."""
    subjects: SubjectPictures | None = None
    """Each subject by itself, for samplers that need ``subjects``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlImages:
    """The two condition images of a scene, and a picture of the layout for people."""

    spatial: RgbImage
    """``I^C``, (H, W, 3) uint8: routing ascending, routing descending, structure."""
    identity: RgbImage
    """``I^S``, (N*H', W', 3) uint8: identity images stacked along the height."""
    regions: BoolMap
    """(N, H, W) bool, subject order."""
    layout: RgbImage
    """(H, W, 3) uint8: coloured preview of the regions with the subjects' names."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What one call of ``generate`` or ``insert`` made."""

    images: tuple[Image.Image, ...]
    """The images, one per seed."""
    controls: ControlImages = field(repr=False)
    """The condition images that made them."""
    scene: Scene
    """The scene as it was used."""
    seeds: tuple[int, ...]
    """``seeds[k]`` made ``images[k]``."""
    region: FloatMap | None = field(default=None, repr=False)
    """Insertion: (H, W) in 0..1, where the photograph may have changed; where it is 0 its pixels are kept."""
    warnings: tuple[str, ...] = ()
    """What may disappoint, e.g. a subject hidden in both routing channels."""
    seconds: float = math.nan
    """Wall time of sampling, for the record."""
    paths: tuple[str, ...] = ()
    """Where the images were written; empty when nothing was written."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was run with: sampler, steps, guidance, adapters, versions."""


def prompts_of(text: str | Sequence[str], count: int) -> list[str]:
    """One prompt per image: a single text is repeated."""
    return [text] * count if isinstance(text, str) else list(text)
