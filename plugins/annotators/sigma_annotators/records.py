"""What annotators do with records: say what is missing, drop some or some of the subjects, name boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_framework import DataError


def require(record: Mapping[str, Any], number: int, annotator: str, keys: Sequence[str]) -> None:
    """Raises ``DataError`` when a record lacks one of ``keys``."""
    if missing := [key for key in keys if key not in record]:
        name = record.get("key", f"record {number}")
        raise DataError(f"{name}: {annotator} needs {', '.join(missing)}; put a stage that makes them before it")


def kept(made: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """``annotate`` of an annotator that also has ``annotate_or_reject``: what that makes, without what it drops."""
    return (record for record in made if "rejected" not in record)


def is_told(record: Mapping[str, Any], annotator: str) -> bool:
    """Whether a record has captions and prompts already, which an annotator that invents scenes then keeps.

    Raises:
        DataError: captions alone: an invented scene would not be theirs.
    """
    if not record.get("captions"):
        return False
    if missing := [key for key in ("prompt_full", "prompt_background") if not record.get(key)]:
        raise DataError(
            f"{record.get('key', 'a record')}: {annotator} invents scenes, found captions without {', '.join(missing)};"
            " use plain_prompts, which makes prompts from captions"
        )
    return True


def thinned(record: Mapping[str, Any], keep: Sequence[int], keys: Sequence[str]) -> dict[str, Any]:
    """The record with only the kept subjects in ``keys`` and in those that it names under ``per_subject``.

    ``front_to_back``, which holds numbers of subjects, loses those that go and counts the others anew.
    """
    chosen = dict(record)
    if record.get("front_to_back"):
        new = {old: number for number, old in enumerate(keep)}
        chosen["front_to_back"] = [new[old] for old in record["front_to_back"] if old in new]
    for key in {*keys, *record.get("per_subject", ())}:
        values = record[key]
        chosen[key] = values[list(keep)] if isinstance(values, np.ndarray) else type(values)(values[i] for i in keep)
    return chosen


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a mask with pixels, right and bottom exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
