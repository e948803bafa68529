"""The data source ``dreambooth``: pairs of reference and target for a build (section A.10)."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.any_insertion.source import with_article
from sigma_datasources.dreambooth.config import DreamBoothConfig
from sigma_datasources.pictures import is_picture, read_rgb, square_around, usual_camera
from sigma_datasources.replacement import SoundExamples
from sigma_framework import DataError, Example

_CLASSES = "prompts_and_classes.txt"
"""The data set's own list of classes, one ``folder,class`` per line in its first part."""


class DreamBoothSource:
    """One record per target; satisfies ``DataSource``."""

    def __init__(self, config: DreamBoothConfig) -> None:
        self.config = config
        self._root = Path(config.path).expanduser()
        if not self._root.is_dir():
            raise DataError(
                f"{config.path}: no such folder; give one with a folder of pictures per subject, e.g. source=FOLDER"
            )
        folders = {folder: _pictures(folder) for folder in sorted(self._root.iterdir()) if folder.is_dir()}
        self._pairs = [(files[0], target) for files in folders.values() for target in files[1:]]
        if not self._pairs:
            raise DataError(
                f"{config.path}: found no subject with two pictures; expected FOLDER/<subject>/00.jpg (the reference), "
                "01.jpg, ... (the targets)"
            )
        self._classes = _classes(self._root / _CLASSES)
        self._sound = SoundExamples.alike(
            f"dreambooth {config.path}",
            len(self._pairs),
            subjects=1,
            side=config.image_size,
            tolerance=config,
            name_of=lambda index: self._name(self._pairs[index][1]),
        )

    def __reduce__(self) -> tuple[type[DreamBoothSource], tuple[DreamBoothConfig]]:
        return DreamBoothSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) always 1."""
        return self._sound.counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) always ``image_size``."""
        return self._sound.sizes

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Example:
        """Refused: a photograph says nothing of where its subject is.

        Raises:
            IndexError: there is no such pair.
            DataError: always.
        """
        if not -len(self) <= operator.index(index) < len(self):
            raise IndexError(f"dreambooth has {len(self)} targets, asked for {index}")
        raise DataError(
            f"{self.config.path}: these photographs have no masks; name annotators in the recipe, which then come "
            "first (recipes/dreambooth.yaml does)"
        )

    def record(self, index: int) -> dict[str, Any]:
        """A pair as a build takes it: ``target``, ``reference``, ``captions``, ``camera`` (a usual field of view).

        Raises:
            IndexError: there is no such pair.
            DataError: too many pictures are damaged; names them.
        """
        return self._sound.read(operator.index(index), self._record)

    def _record(self, index: int) -> dict[str, Any]:
        reference, file = self._pairs[index]
        folder = file.parent.name
        return {
            "key": self._name(file),
            "target": self._read(file, self.config.image_size),
            "reference": self._read(reference, self.config.reference_size),
            "captions": [with_article(self._classes.get(folder, re.sub(r"[_\d]+$", "", folder) or folder))],
            "camera": usual_camera(self.config.image_size),
            "provenance": {"source": "DreamBooth", "file": self._name(file), "reference": self._name(reference)},
            "licence": self.config.licence,
        }

    def _read(self, file: Path, side: int) -> NDArray[np.uint8]:
        return square_around(read_rgb(file, self._name(file)), None, side)[0]

    def _name(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()


def _pictures(folder: Path) -> list[Path]:
    """In the order of their names; the first is the reference."""
    return sorted(filter(is_picture, folder.iterdir()))


def _classes(file: Path) -> Mapping[str, str]:
    """Class by folder, as far as the list is there."""
    if not file.is_file():
        return {}
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        folder, comma, name = line.strip().partition(",")
        if line.strip().startswith("Prompts"):
            break
        if comma and folder != "subject_name" and re.fullmatch(r"\w+", folder):
            found[folder] = name.strip()
    return found
