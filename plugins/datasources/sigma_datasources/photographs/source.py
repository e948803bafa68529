"""The data source ``photographs``: pictures for a build that finds and describes their subjects."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.any_insertion.source import with_article
from sigma_datasources.photographs.config import PhotographsConfig
from sigma_datasources.pictures import ENDINGS, is_picture, read_rgb, square_around, usual_camera
from sigma_datasources.replacement import SoundExamples
from sigma_framework import DataError, Example


class PhotographsSource:
    """One subject per picture, told by a caption alone; satisfies ``DataSource``."""

    def __init__(self, config: PhotographsConfig) -> None:
        self.config = config
        root = Path(config.path).expanduser()
        if not root.is_dir():
            raise DataError(f"{config.path}: no such folder; give the folder of photographs, e.g. source=FOLDER")
        self._root = root
        self._files = sorted(filter(is_picture, root.rglob("*")))
        if not self._files:
            raise DataError(f"{config.path}: holds no picture, expected {', '.join(ENDINGS)}")
        self._sound = SoundExamples.alike(
            f"photographs {config.path}",
            len(self._files),
            subjects=1,
            side=config.image_size,
            tolerance=config,
            name_of=lambda index: self._files[index].relative_to(root).as_posix(),
        )

    def __reduce__(self) -> tuple[type[PhotographsSource], tuple[PhotographsConfig]]:
        return PhotographsSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) always 1."""
        return self._sound.counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) always ``image_size``."""
        return self._sound.sizes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        """Refused: a photograph says nothing of where its subject is.

        Raises:
            IndexError: there is no such picture.
            DataError: always.
        """
        self._sound.refuse(
            index,
            "photographs have no masks, so they cannot be trained on as they are; annotate them first "
            "(sigma-run recipes/annotate.yaml source=FOLDER) and train on the shards with sigma_set",
        )

    def record(self, index: int) -> dict[str, Any]:
        """A picture as a build takes it: ``target``, ``captions``, ``camera`` (a usual field of view).

        Raises:
            IndexError: there is no such picture.
            DataError: too many pictures are damaged; names them.
        """
        return self._sound.read(operator.index(index), self._record)

    def _record(self, index: int) -> dict[str, Any]:
        file, config = self._files[index], self.config
        name = file.relative_to(self._root).as_posix()
        target, _ = square_around(read_rgb(file, name), None, config.image_size)
        folder = file.parent.name if file.parent != self._root else self._root.name
        return {
            "key": name,
            "target": target,
            "captions": [config.caption or with_article(folder)],
            "camera": usual_camera(config.image_size),
            "provenance": {"source": "photograph", "file": name},
            "licence": config.licence,
        }
