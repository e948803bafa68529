"""``Scene`` and ``Subject``: the records that people write, load, save and hand to the framework."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from sigma_framework.errors import SceneError
from sigma_framework.types import Camera, DepthRaster

if TYPE_CHECKING:
    from PIL import Image

    from sigma_framework.scene.resolution import ResolvedScene
    from sigma_framework.specs import ControlSpec

Picture: TypeAlias = Union[str, "os.PathLike[str]", "Image.Image", NDArray[Any], DepthRaster]
"""A file (relative to the scene file, or to the current folder when there is none), a PIL image or an array."""

DEFAULT_SIZE = (512, 512)
"""Width and height of a scene that names neither a size nor a background, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """One entity with an identity picture and a place in the image."""

    name: str = ""
    """Unique in its scene; an empty name becomes ``subject1``, ``subject2``, ... when the scene is made."""
    image: Picture
    """Identity picture: RGB, or with transparency around the subject."""
    caption: str = ""
    """What it is, e.g. ``a red mug``."""
    control: Mapping[str, Any]
    """``type`` (a registered control) and that control's fields: ``{"type": "box2d", "xyxy": [0, 0, 64, 64]}``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What to make: a prompt, and subjects in paste order.

    Everything that needs no plugin is checked when a scene is made; ``resolve`` checks the rest and opens the files.

    Raises:
        SceneError: with every problem found.
    """

    subjects: tuple[Subject, ...]
    """1 to 25, in paste order (section 3.3)."""
    prompt: str = ""
    """The place (``background``) or the whole picture (``full``)."""
    prompt_kind: Literal["background", "full"] = "background"
    """Which of the two prompt templates is used (section 4.1)."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; None: the background's, or the default."""
    background: Picture | None = None
    """A photograph to keep, for insertion."""
    camera: Mapping[str, float] | Camera | None = None
    """``{"fov_y": degrees}`` or ``{"fx", "fy", "cx", "cy"}`` in pixels of the scene; None: fov_y 50."""
    structure: Picture | None = None
    """Depth of the whole scene, in place of the subjects' (Table 3)."""
    structure_range: tuple[float, float] | None = None
    """Smallest and largest inverse depth (1 / metres) that a metric ``structure`` is mapped with; None: its own."""
    folder: Path | None = field(default=None, repr=False)
    """Where relative paths start and must stay; None for a scene made in Python: the current folder."""
    origin: str = field(default="scene", repr=False)
    """Names the scene in messages, e.g. its file."""

    def __post_init__(self) -> None:
        from sigma_framework.scene.document import SCENE_KEYS, read_draft

        given = {key: getattr(self, key) for key in SCENE_KEYS}
        draft = read_draft(given, folder=self.folder, origin=self.origin)
        draft.raise_problems()
        for key, value in draft.values.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "subjects", draft.finish_subjects())

    @classmethod
    def load(
        cls, source: Scene | str | os.PathLike[str] | Mapping[str, Any], base: str | os.PathLike[str] | None = None
    ) -> Scene:
        """Reads a scene and checks what needs no plugin.

        Args:
            source: a YAML or JSON file, an image that this framework made, a mapping, or a scene (given back as it is).
            base: for a mapping: the folder its paths start from and must stay in. Give one for data you did not write:
                without it paths are the caller's own, absolute ones included.

        Raises:
            SceneError: with every problem found.
        """
        from sigma_framework.scene.document import open_draft

        if isinstance(source, Scene):
            return source
        draft = open_draft(source, base)
        draft.raise_problems()
        return draft.finish()

    @classmethod
    def load_resolved(
        cls,
        source: Scene | str | os.PathLike[str] | Mapping[str, Any],
        controls: Mapping[str, ControlSpec],
        size_multiple: int,
        *,
        base: str | os.PathLike[str] | None = None,
        default_size: tuple[int, int] = DEFAULT_SIZE,
        background: Picture | None = None,
    ) -> ResolvedScene:
        """``load`` and ``resolve`` in one pass, so that the document's problems and the controls' come together.

        ``background`` takes the place of the scene's own, as in ``with_background``.
        """
        from sigma_framework.scene.document import open_draft
        from sigma_framework.scene.resolution import resolve_draft

        if isinstance(source, Scene):
            scene = source if background is None else source.with_background(background)
            return scene.resolve(controls, size_multiple, default_size=default_size)
        draft = open_draft(source, base)
        if background is not None:
            draft.values["background"] = own_path(background)
        return resolve_draft(draft, controls, size_multiple, default_size)

    @classmethod
    def load_shown(
        cls, source: str | os.PathLike[str], image: str | os.PathLike[str], controls: Mapping[str, ControlSpec]
    ) -> ResolvedScene:
        """``load_resolved`` for a finished image: any size will do, and the image has it where the scene names none."""
        from sigma_framework.scene.pictures import picture_size

        return cls.load_resolved(source, controls, 1, default_size=picture_size(Path(image)) or DEFAULT_SIZE)

    def resolve(
        self, controls: Mapping[str, ControlSpec], size_multiple: int, *, default_size: tuple[int, int] = DEFAULT_SIZE
    ) -> ResolvedScene:
        """Checks every control against its plugin's geometry, opens every file, and gives arrays.

        Args:
            controls: control specs by the names a scene may write as ``type``.
            size_multiple: width and height must be multiples of this, pixels.
            default_size: width and height when the scene says neither ``size`` nor ``background``.

        Raises:
            SceneError: with every problem found.
        """
        from sigma_framework.scene.document import read_draft
        from sigma_framework.scene.resolution import resolve_draft

        given = {item.name: getattr(self, item.name) for item in fields(self)}
        folder, origin = given.pop("folder"), given.pop("origin")
        draft = read_draft(given, folder=folder, origin=origin)
        return resolve_draft(draft, controls, size_multiple, default_size, scene=self)

    def to_document(self) -> dict[str, Any]:
        """Plain data (version 1) with relative file names; a scene that holds arrays must be saved first.

        Raises:
            SceneError: a picture is an array, a PIL image or an absolute path.
        """
        from sigma_framework.scene.document_output import write_document

        return write_document(self)

    def save(self, path: str | os.PathLike[str]) -> Scene:
        """Writes the document (JSON for ``.json``, else YAML), and its pictures beside it as ``inputs/<sha256>.<ext>``.

        Returns:
            The scene as it was written.
        """
        from sigma_framework.scene.storage import save_scene

        return save_scene(self, Path(path))

    def copy_inputs(self, folder: str | os.PathLike[str]) -> Scene:
        """Copies every picture to ``folder/inputs/<sha256>.<ext>``; the scene given back names the copies.

        Raises:
            SceneError: with every file that cannot be read.
        """
        from sigma_framework.scene.storage import copy_pictures

        return copy_pictures(self, Path(folder))

    def with_background(self, background: Picture) -> Scene:
        """The same scene over another photograph; a path is the caller's own, relative to the current folder."""
        return replace(self, background=own_path(background))

    def with_structure_range(self, limits: tuple[float, float] | None) -> Scene:
        """The same scene with the limits of its structure map written down."""
        return replace(self, structure_range=limits)


def own_path(picture: Picture) -> Picture:
    """A file of the caller's, relative to the current folder, so that no scene's folder bounds it."""
    return Path(picture).absolute() if isinstance(picture, (str, os.PathLike)) else picture


def is_array(value: object) -> bool:
    """Whether a picture is given by its pixels instead of by a file."""
    return isinstance(value, (np.ndarray, DepthRaster)) or hasattr(value, "getpixel")


def is_path(value: object) -> bool:
    """Whether a picture is given as a file."""
    return isinstance(value, (str, os.PathLike))


__all__ = ["DEFAULT_SIZE", "Picture", "Scene", "SceneError", "Subject", "is_array", "is_path"]
