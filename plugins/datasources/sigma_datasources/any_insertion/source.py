"""The data source ``any_insertion``: records with a mask as prompt, the reference cut out on white."""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.any_insertion.config import AnyInsertionConfig
from sigma_datasources.parquet import ParquetRows, picture_bytes
from sigma_datasources.pictures import box_of_mask, decode_mask, decode_rgb, square_around, usual_camera
from sigma_datasources.replacement import SoundExamples
from sigma_framework import Camera, DataError, Example, SubjectAnnotation, square_on_white

log = logging.getLogger(__name__)

PARTS = ("ref_image", "ref_mask", "tar_image", "tar_mask")
"""Pictures of a record, in either layout."""
MASKS = ("ref_mask", "tar_mask")
LABELS = ("label", "main_label")
"""The column of what the subject is has one name or the other."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a record without decoding a picture."""

    key: str
    label: str
    split: str | None
    category: str | None
    masked: bool
    """Whether it has both masks; the records of the set's text-prompt part have none."""


class Records(Protocol):
    """Records in one of the two layouts."""

    entries: list[Entry]

    def picture(self, index: int, part: str) -> bytes:
        """The bytes of one of ``PARTS``."""
        ...

    def name(self, index: int) -> str:
        """For messages."""
        ...


class AnyInsertionSource:
    """One subject per example; no depth, no 3D box and no prompt of its own; satisfies ``DataSource``."""

    def __init__(self, config: AnyInsertionConfig) -> None:
        self.config = config
        found = _records(config.path)
        self._rows = [at for at, entry in enumerate(found.entries) if _wanted(entry, config)]
        if found.entries and not any(entry.masked for entry in found.entries):
            raise DataError(
                f"{config.path}: none of {len(found.entries)} records has masks; expected the set's mask-prompt part"
            )
        if unmasked := sum(not entry.masked for entry in found.entries):
            log.info("%s: %d records without masks (text prompts) are left out", config.path, unmasked)
        if not self._rows:
            have = sorted({f"{entry.split}/{entry.category}" for entry in found.entries})
            raise DataError(
                f"{config.path}: none of {len(found.entries)} records has split {config.split} and categories "
                f"{config.categories or 'of any kind'}; there are {', '.join(have[:20]) or 'none'}"
            )
        self._records = found
        self._sound = SoundExamples.alike(
            f"any_insertion {config.path}",
            len(self._rows),
            subjects=1,
            side=config.image_size,
            tolerance=config,
            name_of=lambda index: found.name(self._rows[index]),
        )

    def __reduce__(self) -> tuple[type[AnyInsertionSource], tuple[AnyInsertionConfig]]:
        return AnyInsertionSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) always 1."""
        return self._sound.counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) always ``image_size``."""
        return self._sound.sizes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        """One example, with the subject's name as caption and as prompt.

        Raises:
            IndexError: there is no such example.
            DataError: too many records are damaged; names them.
        """
        return self._sound.read(operator.index(index), self._example)

    def record(self, index: int) -> dict[str, Any]:
        """The record as a build takes it; prompts and depth are left to annotators."""
        return self._sound.read(operator.index(index), self._record)

    def _record(self, index: int) -> dict[str, Any]:
        at, config = self._rows[index], self.config
        entry, name = self._records.entries[at], self._records.name(at)
        pictures = {part: self._records.picture(at, part) for part in PARTS}
        target = decode_rgb(pictures["tar_image"], f"{name}: tar_image")
        mask = decode_mask(pictures["tar_mask"], f"{name}: tar_mask", (target.shape[1], target.shape[0]))
        reference = decode_rgb(pictures["ref_image"], f"{name}: ref_image")
        cutout = decode_mask(pictures["ref_mask"], f"{name}: ref_mask", (reference.shape[1], reference.shape[0]))
        reference[~cutout] = 255
        identity = square_on_white(reference, config.identity_size, cutout, config.identity_padding)
        target, shown = square_around(target, mask, config.image_size)
        if shown is None or not shown.any():
            raise DataError(f"{name}: tar_mask is too small for {config.image_size} pixels")
        return {
            "key": entry.key,
            "target": target,
            "identities": [identity],
            "masks": shown[None],
            "boxes_xyxy": [list(box_of_mask(shown))],
            "captions": [with_article(entry.label)],
            "camera": usual_camera(config.image_size),
            "per_subject": ["identities"],
            "provenance": {"source": "AnyInsertion", "record": entry.key, "label": entry.label},
            "licence": config.licence,
        }

    def _example(self, index: int) -> Example:
        record = self._record(index)
        mask, caption = record["masks"][0], record["captions"][0]
        subject = SubjectAnnotation(
            mask=mask,
            depth=None,
            camera=Camera(**record["camera"]),
            box2d=box_of_mask(mask),
            box3d=None,
            caption=caption,
        )
        return Example(
            target=record["target"],
            identities=tuple(record["identities"]),
            subjects=(subject,),
            prompt_full=f"a photograph of {caption}",
            prompt_background="a photograph",
            key=record["key"],
        )


class ParquetRecords:
    """The table as it is on the hub; ``_V1`` names the label column otherwise."""

    def __init__(self, path: str) -> None:
        self._rows = ParquetRows(path, [*PARTS, LABELS])
        count = len(self._rows)
        columns = [self._rows.column(*names) for names in (("id",), LABELS, ("split",), ("category",))]
        masked = self._rows.filled(*MASKS).tolist()
        self.entries = [
            Entry(_key(identity, at), str(label or "object"), _text(split), _text(category), has)
            for at, has, identity, label, split, category in zip(range(count), masked, *columns, strict=True)
        ]

    def picture(self, index: int, part: str) -> bytes:
        """As in ``Records``."""
        return picture_bytes(self._rows.row(index), part, self.name(index))

    def name(self, index: int) -> str:
        """As in ``Records``."""
        return self._rows.name(index)


class FolderRecords:
    """The converted folder: ``<split>/<category>/<part>/<id>.png`` and ``labels.json`` files of {file: label}."""

    def __init__(self, path: str) -> None:
        root = Path(path).expanduser()
        self._files = sorted(root.glob("*/*/tar_image/*.png")) or sorted(root.glob("*/tar_image/*.png"))
        self.entries = [self._entry(root, file) for file in self._files]

    def picture(self, index: int, part: str) -> bytes:
        """As in ``Records``."""
        file = self._files[index]
        path = file.parent.parent / part / file.name
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    def name(self, index: int) -> str:
        """As in ``Records``."""
        return str(self._files[index])

    @cached_property
    def _labels(self) -> dict[Path, Mapping[str, str]]:
        return {}

    def _entry(self, root: Path, file: Path) -> Entry:
        category = file.parent.parent
        split = category.parent.name if category.parent != root else None
        names = (file.name, file.stem, file.relative_to(root).as_posix())
        for folder in (category, category.parent, root):
            if folder not in self._labels:
                self._labels[folder] = _read_labels(folder / "labels.json")
            label = next((self._labels[folder][name] for name in names if name in self._labels[folder]), None)
            if label:
                break
        key = file.relative_to(root).with_suffix("").as_posix().replace("/tar_image/", "/")
        masked = all((category / part).is_dir() for part in MASKS)
        return Entry(key, label or category.name, split, category.name, masked)


def with_article(label: str) -> str:
    """``a cup``, ``an umbrella``; what starts with an article stays."""
    text = label.strip().replace("_", " ").lower()
    if text.split(" ")[0] in ("a", "an", "the"):
        return text
    return f"{'an' if text[:1] in tuple('aeiou') else 'a'} {text}"


def _records(path: str) -> Records:
    place = Path(path).expanduser()
    layouts: list[Callable[[str], Records]] = [ParquetRecords]
    if place.is_dir() and not any(place.rglob("*.parquet")):
        layouts = [FolderRecords]
        if not any(place.glob("*/*/tar_image")) and not any(place.glob("*/tar_image")):
            raise DataError(f"{path}: holds neither .parquet files nor <split>/<category>/tar_image folders")
    return layouts[0](path)


def _wanted(entry: Entry, config: AnyInsertionConfig) -> bool:
    right_split = config.split is None or entry.split is None or entry.split == config.split
    return entry.masked and right_split and (config.categories is None or entry.category in config.categories)


def _read_labels(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(labels, dict):
        raise DataError(f"{path}: expected a map of file names to labels")
    return {str(name): str(label) for name, label in labels.items()}


def _key(identity: Any, at: int) -> str:
    return str(identity) if identity else f"row-{at}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
