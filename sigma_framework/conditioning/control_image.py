"""``I^C``: routing in ascending and descending paste order, and structure (sections 3.3, 3.4).

The only place where layers of several subjects meet. It knows no control type and opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sigma_framework.conditioning import occlusion, structure_map
from sigma_framework.errors import Problem, SceneError
from sigma_framework.types import MAX_SUBJECTS, BoolMap, Canvas, ControlLayer, DepthRaster, RgbImage

ROUTING_STEP = 10
"""Intensity of subject i is 10 (i + 1); the background is 0 (section 3.3)."""
ASCENDING, DESCENDING, STRUCTURE = 0, 1, 2
"""Channels of ``I^C``."""

Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of a region's bounding box."""
Routing: TypeAlias = Literal["both_orders", "one_order", "one_intensity"]
"""The proposed routing; the same paste order in both channels; every subject with the intensity of the first (A.14)."""
StructureScale: TypeAlias = Literal["scene", "subject"]
"""Whose nearest and farthest visible pixel span the structure channel: all subjects' together, or each one's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """How layers become ``I^C``; anything but the defaults is there to be compared with them."""

    routing: Routing = "both_orders"
    """Channels 0 and 1."""
    structure: StructureScale = "scene"
    """Channel 2; read where the subjects' own depth is drawn."""


PROPOSED = Composition()
"""As in sections 3.3 and 3.4."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComposedControl:
    """All layers as one image."""

    spatial: RgbImage
    """``I^C``, (H, W, 3) uint8: routing ascending, routing descending, structure."""
    regions: BoolMap
    """(N, H, W) bool, subject order."""
    structure_range: tuple[float, float] | None
    """Smallest and largest inverse depth (1 / metres, or relative) of channel 2's mapping; None without depth."""
    warnings: tuple[str, ...]
    """Subjects that are hidden, or boxes that overlap too much (A.8)."""


def compose(
    layers: Sequence[ControlLayer],
    names: Sequence[str],
    canvas: Canvas,
    *,
    structure: NDArray[np.uint8] | DepthRaster | None = None,
    structure_range: tuple[float, float] | None = None,
    dropped_channel: int | None = None,
    composition: Composition = PROPOSED,
) -> ComposedControl:
    """Routing and structure of all subjects.

    Args:
        layers: one per subject, in paste order; regions of the canvas's size.
        names: the subjects' names, for warnings and errors.
        canvas: size of the image.
        structure: depth of the whole scene in place of the layers' (Table 3); uint8 is used as it is.
        structure_range: inverse depths that a metric ``structure`` is mapped with; None: its own smallest and largest.
        dropped_channel: channel set to 0, for training (section 4.1).
        composition: how routing and structure are drawn.

    Raises:
        SceneError: no subject or more than 25, a region without a pixel, depth that is not finite and positive, or
            relative depth that cannot be mixed with metres; all of it at once.
    """
    problems = _check_layers(layers, names, canvas)
    if problems:
        raise SceneError("layout", problems)
    windows = [window_of(layer.region) for layer in layers]
    regions = np.stack([layer.region for layer in layers])
    channels = np.zeros((3, *canvas.size_hw), dtype=np.uint8)  # planes: pasting into interleaved pixels is slow
    _paste(channels[ASCENDING], layers, windows, range(len(layers)))
    if composition.routing == "one_order":
        channels[DESCENDING] = channels[ASCENDING]
    else:
        _paste(channels[DESCENDING], layers, windows, range(len(layers) - 1, -1, -1))
    warnings = occlusion.find_warnings(layers, names, windows, channels[ASCENDING], channels[DESCENDING])
    if composition.routing == "one_intensity":
        channels[:STRUCTURE][channels[:STRUCTURE] > 0] = intensity(0)
    if structure is None:
        each = composition.structure == "subject"
        limits = structure_map.draw_layers(channels[STRUCTURE], layers, names, windows, each=each)
    else:
        limits = structure_map.draw_scene(channels[STRUCTURE], structure, structure_range)
    if dropped_channel is not None:
        channels[dropped_channel] = 0
    spatial = np.empty((*canvas.size_hw, 3), dtype=np.uint8)
    for index, channel in enumerate(channels):
        spatial[:, :, index] = channel
    return ComposedControl(
        spatial=spatial,
        regions=regions,
        structure_range=limits,
        warnings=tuple(warnings),
    )


def window_of(region: BoolMap) -> Window:
    """The bounding box of a region that has a pixel."""
    rows = np.flatnonzero(region.any(axis=1))
    columns = np.flatnonzero(region[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def intensity(index: int) -> int:
    """Routing value of a subject by its place in the scene, 0-based (section 3.3)."""
    return ROUTING_STEP * (index + 1)


def subject_place(index: int, names: Sequence[str]) -> str:
    """How messages name a subject: ``subjects[2] (cat)``."""
    return f"subjects[{index}] ({names[index]})"


def _check_layers(layers: Sequence[ControlLayer], names: Sequence[str], canvas: Canvas) -> list[Problem]:
    if not 1 <= len(layers) <= MAX_SUBJECTS:
        return [Problem("subjects", f"found {len(layers)}, expected 1 to {MAX_SUBJECTS} subjects")]
    if len(names) != len(layers):
        return [Problem("subjects", f"found {len(names)} names for {len(layers)} layers")]
    problems = []
    for index, layer in enumerate(layers):
        where = subject_place(index, names)
        if layer.region.dtype != np.bool_ or layer.region.shape != canvas.size_hw:
            found = f"region of shape {layer.region.shape} and type {layer.region.dtype}"
            problems.append(Problem(where, f"{found}, expected {canvas.size_hw} bool"))
        elif not layer.region.any():
            problems.append(Problem(where, "its region has no pixel in the image", "move or enlarge it"))
        if layer.depth is not None and layer.depth.shape != canvas.size_hw:
            problems.append(Problem(where, f"depth of shape {layer.depth.shape}, expected {canvas.size_hw}"))
    return problems


def _paste(channel: NDArray[np.uint8], layers: Sequence[ControlLayer], windows: Sequence[Window], order: range) -> None:
    for index in order:
        window = windows[index]
        np.copyto(channel[window], np.uint8(intensity(index)), where=layers[index].region[window])
