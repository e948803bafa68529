"""What every format is read into: layouts with boxes as fractions of the picture, and what is wrong or lacking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar

from sigma_framework.dataclass_schema import Range, build, join, shown
from sigma_framework.errors import Problem

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of width and height."""

Side = Annotated[int, Range(low=1)]
"""Width or height, pixels."""

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSubject:
    """One subject of a layout."""

    where: str
    """Key path in the input, for messages."""
    image: str
    """Its picture, relative to the folder of the pictures."""
    caption: str
    """What it is."""
    label: str = ""
    """A short name; empty takes the caption."""
    box: Box | None
    """Where it stands; None when the format does not say."""
    mask: str | None = None
    """A picture of ``image``'s size, white where the subject is; the rest of ``image`` becomes transparent."""
    crop: Box | None = None
    """The part of ``image`` that shows the subject; None: all of it."""
    outline: tuple[tuple[float, ...], ...] = ()
    """Polygons x, y, x, y, ... in pixels of ``image``: what is outside becomes transparent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One scene of a benchmark."""

    key: str
    """Unique in its file; the document's name."""
    where: str
    """Key path in the input, for messages."""
    prompt: str
    """The whole picture in words."""
    size: tuple[int, int] | None
    """Width and height in pixels; None when the format does not say."""
    subjects: tuple[PlacedSubject, ...]
    """Paste order."""


@dataclass(slots=True)
class Findings:
    """What reading an input tells besides its layouts."""

    problems: list[Problem] = field(default_factory=list)
    """Why nothing is written."""
    notes: list[str] = field(default_factory=list)
    """What is left out, and why."""

    def record(self, schema: type[_Record], data: Any, where: str) -> _Record | None:
        """The keys of ``data`` that ``schema`` knows, checked; others are the format's own and are not looked at."""
        if not isinstance(data, Mapping):
            self.problems.append(Problem(where, f"found {shown(data)}, expected a map"))
            return None
        known = {item.name for item in fields(schema)}  # type: ignore[arg-type]  # every schema here is a dataclass
        checked = build(schema, {key: value for key, value in data.items() if key in known}, where)
        self.problems.extend(checked.problems)
        return checked.value if checked.value is not None else None

    def entries(self, data: Any, where: str) -> list[tuple[str, Any]]:
        """Key paths and items of a list that must not be empty."""
        if not isinstance(data, list) or not data:
            self.problems.append(Problem(where, f"found {shown(data)}, expected a list with at least one entry"))
            return []
        return [(f"{where}[{index}]", item) for index, item in enumerate(data)]

    def fractions(self, box: Box, scale: tuple[float, float], where: str) -> Box | None:
        """A box over ``scale`` (width, height), clipped to the picture; None and a problem when nothing is left."""
        x0, y0, x1, y1 = box[0] / scale[0], box[1] / scale[1], box[2] / scale[0], box[3] / scale[1]
        if not (x1 > x0 and y1 > y0):
            self.problems.append(
                Problem(where, f"found {list(box)}, expected x1 greater than x0 and y1 greater than y0")
            )
            return None
        clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0))
        if not (clipped[2] > clipped[0] and clipped[3] > clipped[1]):
            limits = f"{scale[0]:g} by {scale[1]:g}"
            self.problems.append(Problem(where, f"found {list(box)}, which lies outside the picture of {limits}"))
            return None
        return clipped


def at(where: str, key: str) -> str:
    """Key path one level down."""
    return join(where, key)
