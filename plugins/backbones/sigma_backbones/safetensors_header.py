"""What a safetensors file says of itself, read without its numbers and without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH_BYTES = 8
"""A file starts with the length of its header, little-endian."""
LONGEST_HEADER = 100_000_000
"""The format's own limit, bytes."""
ARCHIVES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How pickles start, zipped by torch or plain."""
BYTES_OF = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
"""By the format's names of numbers; those of one byte and less are not listed."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Names, shapes and kinds of the tensors, and the text beside them."""

    tensors: dict[str, dict[str, Any]]
    """``dtype``, ``shape`` and ``data_offsets`` by name."""
    metadata: dict[str, str]
    """The file's own text."""

    def count(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(entry["shape"]) for entry in self.tensors.values())


def read_header(file: Path) -> Header:
    """The header of a file whose length agrees with it.

    Raises:
        ValueError: it is no such file, or damaged; the message says how.
        OSError: it cannot be opened.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(LENGTH_BYTES)
        if start.startswith(ARCHIVES):
            raise ValueError("not a safetensors file but a pickle under another name, which can run code when opened")
        length = int.from_bytes(start, "little")
        if size < LENGTH_BYTES or length > LONGEST_HEADER:
            raise ValueError(f"damaged or not a safetensors file (found {size:,} bytes)")
        text = stream.read(length)
    if len(text) < length:
        raise ValueError(f"damaged: expected a header of {length:,} bytes, found {len(text):,}")
    tensors = _parsed(text)
    metadata = tensors.pop("__metadata__", {})
    if not all(_is_entry(entry) for entry in tensors.values()) or not isinstance(metadata, dict):
        raise ValueError("damaged: its header describes no tensors")
    expected = LENGTH_BYTES + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    if size != expected:
        raise ValueError(f"damaged: expected {expected:,} bytes, found {size:,}")
    return Header(tensors=tensors, metadata={str(key): str(value) for key, value in metadata.items()})


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("damaged or not a safetensors file: its header is not JSON") from error
    if not isinstance(read, dict):
        raise ValueError("damaged or not a safetensors file: its header is not a map")
    return read


def _is_entry(entry: Any) -> bool:
    """Begin and end inside the file, and as many bytes between them as the shape needs."""
    try:
        begin, end = entry["data_offsets"]
        wanted = math.prod(entry["shape"]) * BYTES_OF.get(entry["dtype"], 0)
        return 0 <= begin <= end and (wanted == 0 or end - begin == wanted)
    except (TypeError, KeyError, ValueError):
        return False
