"""Rows of Parquet files by their number, with pictures as HF ``datasets`` stores them: structs of bytes and path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from sigma_framework import DataError, Problem


class ParquetRows:
    """All rows of one file, or of the files of a folder in the order of their names.

    The row group read last stays in memory: reading in order is fast, reading at random reads a group per row.

    Args:
        path: a ``.parquet`` file, or a folder that holds some, at any depth.
        needed: columns that every file must have; of a tuple, one.

    Raises:
        DataError: no file, damaged files, or columns that are missing; all problems together.
    """

    def __init__(self, path: str, needed: Sequence[str | tuple[str, ...]]) -> None:
        self.files = _files_of(path)
        problems: list[Problem] = []
        groups: list[tuple[int, int, int]] = []
        self._columns: list[set[str]] = []
        for number, file in enumerate(self.files):
            try:
                groups += [(number, group, rows) for group, rows in enumerate(self._look(file, needed, problems))]
            except Exception as error:  # pyarrow's own kinds, and those of the system
                problems.append(Problem(file.name, f"not a readable Parquet file ({_first_line(error)})"))
        if problems:
            raise DataError(path, problems)
        self._groups = groups
        self._ends = np.cumsum([rows for *_, rows in groups], dtype=np.int64)
        self._held: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": (-1, None)}

    def column(self, *names: str) -> list[Any]:
        """All values of the first of these columns that a file has; None where it has none. Meant for short texts."""
        values: list[Any] = []
        for file, present in zip(self.files, self._columns, strict=True):
            name = next((name for name in names if name in present), None)
            rows = parquet.ParquetFile(file).metadata.num_rows
            values += [None] * rows if name is None else parquet.read_table(file, columns=[name])[name].to_pylist()
        return values

    def filled(self, *columns: str) -> NDArray[np.bool_]:
        """(len,) whether a row has something in all of these picture columns.

        Files count their empty cells: only row groups that have some, or do not say, are read.
        """
        found = np.ones(len(self), bool)
        held: tuple[int, Any] = (-1, None)
        for (number, group, rows), end in zip(self._groups, self._ends.tolist(), strict=True):
            if held[0] != number:
                held = (number, parquet.ParquetFile(self.files[number]))
            for column in columns:
                if _may_be_empty(held[1].metadata.row_group(group), column):
                    cells = held[1].read_row_group(group, columns=[column])[column].to_pylist()
                    found[end - rows : end] &= [_content(cell) is not None for cell in cells]
        return found

    def row(self, index: int) -> Mapping[str, Any]:
        """One row as plain data.

        Raises:
            DataError: the row group cannot be read.
        """
        at = int(np.searchsorted(self._ends, index, side="right"))
        number, group, rows = self._groups[at]
        if self._held[0] != at:
            try:
                self._held = (at, parquet.ParquetFile(self.files[number]).read_row_group(group))
            except Exception as error:
                raise DataError(f"{self.files[number].name}: row group {group}: {_first_line(error)}") from error
        row: Mapping[str, Any] = self._held[1].slice(index - int(self._ends[at]) + rows, 1).to_pylist()[0]
        return row

    def name(self, index: int) -> str:
        """``file.parquet row 7``, for messages."""
        at = int(np.searchsorted(self._ends, index, side="right"))
        first = sum(rows for number, _, rows in self._groups[:at] if number == self._groups[at][0])
        inner = index - int(self._ends[at]) + self._groups[at][2]
        return f"{self.files[self._groups[at][0]].name} row {first + inner}"

    def _look(self, file: Path, needed: Sequence[str | tuple[str, ...]], problems: list[Problem]) -> list[int]:
        opened = parquet.ParquetFile(file)
        present = set(opened.schema_arrow.names)
        self._columns.append(present)
        for column in needed:
            names = (column,) if isinstance(column, str) else column
            if not present & set(names):
                found = ", ".join(sorted(present)) or "none"
                problems.append(Problem(file.name, f"no column {' or '.join(names)}", f"its columns: {found}"))
        return [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]


def picture_bytes(row: Mapping[str, Any], column: str, name: str) -> bytes:
    """The bytes of a picture column: a struct with ``bytes``, or bytes alone.

    Raises:
        DataError: empty, or only a path: files beside the table are not opened.
    """
    content = _content(row.get(column))
    if not isinstance(content, bytes) or not content:
        raise DataError(f"{name}: {column} holds no picture")
    return content


def _content(cell: Any) -> Any:
    return cell.get("bytes") if isinstance(cell, Mapping) else cell


def _may_be_empty(group: Any, column: str) -> bool:
    """Whether a row group has empty cells in a column, by its statistics."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema in (column, f"{column}.bytes"):
            told = chunk.statistics
            return told is None or not told.has_null_count or bool(told.null_count)
    return True


def _files_of(path: str) -> list[Path]:
    place = Path(path).expanduser()
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
    if not files:
        what = "holds no .parquet file" if place.is_dir() else "no such file or folder"
        raise DataError(f"{path}: {what}")
    return files


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
