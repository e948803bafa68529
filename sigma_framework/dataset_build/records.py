"""Records of a build: where they start, and how they lie on disk between stages.

A stage's file holds only what the stage changed; the rest of a record is found in the files of the stages before it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_framework.errors import RunError
from sigma_framework.shards import plain_box
from sigma_framework.shards.writer import replace_file
from sigma_framework.types import Example, FloatMap

Record = dict[str, Any]
_ARRAY = "$array"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def record_of(example: Example) -> Record:
    """An example as an annotator's record: arrays and plain data by name."""
    depths = [subject.depth for subject in example.subjects]
    return {
        "key": example.key,
        "target": example.target,
        "identities": list(example.identities),
        "masks": np.stack([subject.mask for subject in example.subjects]),
        "depth": None if any(depth is None for depth in depths) else _merged(example),
        "boxes_xyxy": [list(subject.box2d) for subject in example.subjects],
        "boxes_3d": [None if subject.box3d is None else plain_box(subject.box3d) for subject in example.subjects],
        "camera": {name: getattr(example.subjects[0].camera, name) for name in ("fx", "fy", "cx", "cy")},
        "captions": [subject.caption for subject in example.subjects],
        "prompt_full": example.prompt_full,
        "prompt_background": example.prompt_background,
        "per_subject": ["identities", "boxes_3d"],
    }


def write_unit(path: Path, records: Sequence[Mapping[str, Any]], before: Sequence[Record], facts: Any) -> None:
    """Stores what a stage made of one unit; whole or not at all.

    Args:
        path: of the file.
        records: what came out.
        before: what went in; a value of theirs that is still the same object or equal plain data is not stored again.
        facts: plain data about the unit: rejected records and counts.
    """
    arrays: list[NDArray[Any]] = []
    rows = []
    sources = {record["key"]: number for number, record in enumerate(before) if "key" in record}
    for record in records:
        number = sources.get(record.get("key"))
        old: Record = before[number] if number is not None else {}
        changed = {key: value for key, value in record.items() if not (key in old and _same(old[key], value))}
        rows.append(
            {
                "from": number,
                "gone": sorted(set(old) - set(record)),
                "set": {key: _flatten(value, arrays) for key, value in changed.items()},
            }
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        _add(file, "unit.json", json.dumps({"rows": rows, "facts": facts}).encode())
        for number, array in enumerate(arrays):
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            _add(file, f"{number}.npy", content.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, buffer.getvalue())


def read_unit(path: Path, before: Sequence[Record]) -> tuple[list[Record], Any]:
    """(records, facts) of one unit.

    Args:
        path: of the file.
        before: the records that went in, as they were read.

    Raises:
        RunError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            document = json.loads(file.read("unit.json"))
            names = set(file.namelist()) - {"unit.json"}
            arrays = [np.load(io.BytesIO(file.read(f"{n}.npy")), allow_pickle=False) for n in range(len(names))]
            records = []
            for row in document["rows"]:
                kept = {} if row["from"] is None else dict(before[row["from"]])
                for key in row["gone"]:
                    kept.pop(key, None)
                kept.update({key: _restore(value, arrays) for key, value in row["set"].items()})
                records.append(kept)
    except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}); delete it and run again, or start anew with --fresh") from error
    return records, document["facts"]


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    file.writestr(entry, content)


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    try:
        return not _holds_arrays(old) and not _holds_arrays(new) and bool(old == new)
    except ValueError:
        return False


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_arrays(part) for part in value.values())
    return isinstance(value, np.ndarray) or (isinstance(value, (list, tuple)) and any(map(_holds_arrays, value)))


def _flatten(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Plain JSON data, with arrays replaced by their number."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _flatten(part, arrays) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flatten(part, arrays) for part in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _restore(value: Any, arrays: Sequence[NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _restore(part, arrays) for key, part in value.items()}
    return [_restore(part, arrays) for part in value] if isinstance(value, list) else value


def _merged(example: Example) -> FloatMap:
    """(H, W) metres over all subjects, 0 elsewhere; visible masks do not overlap."""
    depth = np.zeros(example.target.shape[:2], np.float32)
    for subject in example.subjects:
        if subject.depth is not None:
            depth[subject.mask] = subject.depth[subject.mask]
    return depth
