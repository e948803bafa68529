"""The data source ``musar_gen``: rows for a build that finds the subjects; it cannot be trained on as it is."""

from __future__ import annotations

import operator
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_datasources.musar_gen.config import MusarGenConfig
from sigma_datasources.parquet import ParquetRows, picture_bytes
from sigma_datasources.pictures import decode_rgb, square_around, usual_camera
from sigma_datasources.replacement import SoundExamples
from sigma_framework import DataError, Example, square_on_white

SUBJECTS = (0, 1)
COLUMNS = ("cond_img_0", "cond_img_1", "tgt_img", "cond_prompt_0", "cond_prompt_1", "prompt")
_SCENE = re.compile(r"\bin the (.{1,80}?) scene\b", re.IGNORECASE)
"""The set's prompts say "in the *snowy street* scene, A and B are placed together"."""


class MusarGenSource:
    """Two subjects per row, told by captions and reference pictures alone; satisfies ``DataSource``."""

    def __init__(self, config: MusarGenConfig) -> None:
        self.config = config
        self._rows = ParquetRows(config.path, COLUMNS)
        if len(self._rows) == 0:
            raise DataError(f"{config.path}: the table is empty")
        self._sound = SoundExamples.alike(
            f"musar_gen {config.path}",
            len(self._rows),
            subjects=len(SUBJECTS),
            side=config.image_size,
            tolerance=config,
            name_of=self._rows.name,
        )

    def __reduce__(self) -> tuple[type[MusarGenSource], tuple[MusarGenConfig]]:
        return MusarGenSource, (self.config,)

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) always 2."""
        return self._sound.counts

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) always ``image_size``."""
        return self._sound.sizes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        """Refused: the table says nothing of where the subjects are.

        Raises:
            IndexError: there is no such row.
            DataError: always.
        """
        self._sound.refuse(
            index,
            "MUSAR-Gen has no masks, so it cannot be trained on as it is; annotate it first "
            "(sigma-run recipes/annotate.yaml) and train on the shards with the data source sigma_set",
        )

    def record(self, index: int) -> dict[str, Any]:
        """A row as a build takes it, without masks, boxes and depth.

        Raises:
            IndexError: there is no such row.
            DataError: too many rows are damaged; names them.
        """
        return self._sound.read(operator.index(index), self._record)

    def _record(self, index: int) -> dict[str, Any]:
        row, name, config = self._rows.row(index), self._rows.name(index), self.config
        texts = {column: str(row.get(column) or "").strip() for column in COLUMNS if "prompt" in column}
        if empty := [column for column, text in texts.items() if not text]:
            raise DataError(f"{name}: {', '.join(empty)}: empty")
        target, _ = square_around(
            decode_rgb(picture_bytes(row, "tgt_img", name), f"{name}: tgt_img"), None, config.image_size
        )
        references = [decode_rgb(picture_bytes(row, f"cond_img_{k}", name), f"{name}: cond_img_{k}") for k in SUBJECTS]
        scene = _SCENE.search(texts["prompt"])
        record = {
            "key": f"musar-{index:06d}",
            "target": target,
            "identities": [square_on_white(reference, config.identity_size) for reference in references],
            "captions": [texts[f"cond_prompt_{k}"] for k in SUBJECTS],
            "prompt_full": texts["prompt"],
            "camera": usual_camera(config.image_size),
            "per_subject": ["identities"],
            "provenance": {"source": "MUSAR-Gen", "row": name},
            "licence": "Apache-2.0",
        }
        return record if scene is None else {**record, "prompt_background": f"the {scene[1].strip(' *')} scene"}
