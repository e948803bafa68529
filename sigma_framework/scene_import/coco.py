"""COCO's instances: the things of a photograph become identity images, their boxes the layout to compose them in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sigma_framework.errors import Problem
from sigma_framework.scene_import.records import Box, Findings, Layout, PlacedSubject, Side, at

AREA = (0.01, 0.4)
"""Boxes with a smaller or larger share of the picture are left out, as in the making of SIGMA-SET (A.1)."""
MOST_SUBJECTS = 10
"""The largest boxes of a picture are taken, so many."""


@dataclass(frozen=True, kw_only=True)
class _Document:
    images: Any
    annotations: Any
    categories: Any


@dataclass(frozen=True, kw_only=True)
class _Image:
    id: int
    file_name: str
    width: Side
    height: Side


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    image_id: int
    category_id: int
    bbox: Box
    iscrowd: int = 0
    segmentation: Any = None


@dataclass(frozen=True, kw_only=True)
class _Category:
    id: int
    name: str


def read_coco(data: Any, found: Findings) -> Iterator[Layout]:
    """``instances_*.json``; it has no captions, so the prompt names the categories."""
    document = found.record(_Document, data, "")
    if document is None:
        return
    categories = [
        found.record(_Category, entry, where) for where, entry in found.entries(document.categories, "categories")
    ]
    names = {category.id: category.name for category in categories if category is not None}
    placed: defaultdict[int, list[tuple[str, _Annotation]]] = defaultdict(list)
    for where, entry in found.entries(document.annotations, "annotations"):
        one = found.record(_Annotation, entry, where)
        if one is not None and one.category_id not in names:
            found.problems.append(Problem(at(where, "category_id"), f"found {one.category_id}, which no category has"))
        elif one is not None and not one.iscrowd:
            placed[one.image_id].append((where, one))
    for where, entry in found.entries(document.images, "images"):
        image = found.record(_Image, entry, where)
        if image is None:
            continue
        subjects = _subjects(image, placed.pop(image.id, []), names, found)
        if subjects:
            prompt = ", ".join(f"a {one.label}" for one in subjects)
            size = (image.width, image.height)
            yield Layout(key=f"{image.id:012d}", where=where, prompt=prompt, size=size, subjects=subjects)
        else:
            found.notes.append(
                f"{where}: {image.file_name} has no box of {AREA[0]:.0%} to {AREA[1]:.0%} of it; left out"
            )
    for image_id, left in placed.items():
        found.problems.append(Problem(at(left[0][0], "image_id"), f"found {image_id}, which no image has"))


def _subjects(
    image: _Image, annotations: list[tuple[str, _Annotation]], names: dict[int, str], found: Findings
) -> tuple[PlacedSubject, ...]:
    kept = []
    for where, one in annotations:
        x, y, width, height = one.bbox
        box = found.fractions((x, y, x + width, y + height), (image.width, image.height), at(where, "bbox"))
        if box is None:
            continue
        area = (box[2] - box[0]) * (box[3] - box[1])
        if AREA[0] <= area <= AREA[1]:
            name = names[one.category_id]
            polygons = one.segmentation if isinstance(one.segmentation, list) else []
            outline = tuple(tuple(float(v) for v in polygon) for polygon in polygons if _is_polygon(polygon))
            subject = PlacedSubject(
                where=where, image=image.file_name, caption=f"a {name}", label=name, box=box, crop=box, outline=outline
            )
            kept.append((area, subject))
    kept.sort(key=lambda pair: -pair[0])  # larger things are farther down the stack of papers
    return tuple(subject for _, subject in kept[:MOST_SUBJECTS])


def _is_polygon(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
    return numbers and len(value) >= 6 and len(value) % 2 == 0
