"""Names, limits and headers of a shard's members: what may be in a tar file, and what is refused unread."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sigma_framework.errors import DataError

FORMAT_VERSION = 1
"""``version`` of documents, indexes and manifests."""
MANIFEST = "manifest.json"
"""Written last: a folder without it is unfinished."""
INDEX_SUFFIX = ".idx.json"
"""``00000.tar`` is indexed by ``00000.tar.idx.json``."""
MAX_MEMBER_BYTES = 64 * 2**20
"""Largest member; ten identity pictures of 1024 pixels and more fit."""
MAX_DOCUMENT_BYTES = 4 * 2**20
"""Largest ``KEY.json``."""
MAX_CATALOGUE_BYTES = 512 * 2**20
"""Largest index or manifest; a million samples fit."""
BLOCK = tarfile.BLOCKSIZE
SUFFIXES = {
    "depth": ("png",),
    "identities": ("png", "jpg", "webp"),
    "json": ("json",),
    "masks": ("png",),
    "target": ("png", "jpg"),
}
"""Parts of a sample, in the order they stand in the tar file, with the endings each may have."""

_MEMBER = re.compile(r"([A-Za-z0-9_-]{1,80})\.(?:(depth|identities|masks|target)\.([a-z]{3,4})|(json))")
_SHARD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\.tar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a tar file."""

    key: str
    """Of its sample."""
    part: str
    """One of ``SUFFIXES``."""
    name: str
    """``key.part.suffix``, or ``key.json``."""
    offset: int
    """First byte of its data."""
    size: int
    """Bytes."""


def split_name(name: str) -> tuple[str, str]:
    """(key, part) of a member's name.

    Raises:
        DataError: not a member of a sample.
    """
    match = _MEMBER.fullmatch(name)
    if not match:
        raise DataError(
            f"member {shown_name(name)}: refused; expected KEY.PART.SUFFIX with parts {', '.join(SUFFIXES)} "
            "and a key of letters, digits, - and _"
        )
    key, part, suffix = match[1], match[2] or "json", match[3] or "json"
    if suffix not in SUFFIXES[part]:
        raise DataError(f"member {shown_name(name)}: expected {part} as {' or '.join(SUFFIXES[part])}")
    return key, part


def require_shard_name(name: str) -> str:
    """A shard's file name as it is; never a path.

    Raises:
        DataError: it could lead out of the set's folder.
    """
    if not _SHARD.fullmatch(name):
        raise DataError(f"shard {shown_name(name)}: refused; expected a plain file name that ends in .tar")
    return name


def shown_name(name: str) -> str:
    """A stranger's name for a message: quoted, escaped, short."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def read_header(block: bytes, offset: int, shard: str) -> Member:
    """The member that a header block at ``offset`` announces.

    Raises:
        DataError: damaged, not a plain file, a name that no sample has, or too large.
    """
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise DataError(f"{shard}: damaged header at byte {offset} ({error})") from error
    if info.type != tarfile.REGTYPE:
        raise DataError(f"{shard}: member {shown_name(info.name)} is not a plain file; refused")
    key, part = split_name(info.name)
    limit = MAX_DOCUMENT_BYTES if part == "json" else MAX_MEMBER_BYTES
    if not 0 < info.size <= limit:
        raise DataError(f"{shard}: member {info.name} has {info.size} bytes, expected 1 to {limit}")
    return Member(key=key, part=part, name=info.name, offset=offset + BLOCK, size=info.size)


def padded(size: int) -> int:
    """Bytes that ``size`` bytes of data take in a tar file."""
    return -(-size // BLOCK) * BLOCK


def scan(file: BinaryIO, shard: str) -> Iterator[Member]:
    """All members of an open tar file in order, reading headers alone; nothing is skipped and nothing extracted.

    Raises:
        DataError: where the file stops being a shard: a bad header, a cut, or bytes after the end.
    """
    file.seek(0, 2)
    length, offset, count = file.tell(), 0, 0
    _require_tar(file, shard, length)
    while True:
        file.seek(offset)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise DataError(
                f"{shard}: ends early at byte {length} after {count} members, expected an end-of-archive mark"
            )
        if not any(block):
            break
        member = read_header(block, offset, shard)
        offset = member.offset + padded(member.size)
        if offset > length:
            raise DataError(f"{shard}: ends early at byte {length} after {count} members, inside {member.name}")
        count += 1
        yield member
    file.seek(offset)
    while rest := file.read(2**20):
        if any(rest):
            raise DataError(f"{shard}: found data after the end-of-archive mark at byte {offset}")


def _require_tar(file: BinaryIO, shard: str, length: int) -> None:
    """Says of what is no tar file what it is, before a header of it seems damaged."""
    if length == 0:
        raise DataError(f"{shard}: is empty, expected a tar file; copy it again")
    file.seek(0)
    block = file.read(BLOCK)
    if block.startswith(b"\x1f\x8b"):
        raise DataError(f"{shard}: is compressed (gzip), expected a plain tar file; decompress it")
    if len(block) == BLOCK and any(block) and block[257:262] != b"ustar":
        raise DataError(f"{shard}: is not a tar file; copy it again")


def scan_samples(file: BinaryIO, shard: str) -> Iterator[tuple[Member, ...]]:
    """The members of one sample after another, in the order of ``SUFFIXES``.

    Raises:
        DataError: as ``scan``; a part is missing, twice, or out of place; a key comes again.
    """
    seen: set[str] = set()
    sample: list[Member] = []
    for member in scan(file, shard):
        if not sample and member.key in seen:
            raise DataError(f"{shard}: key {member.key} appears twice")
        expected = list(SUFFIXES)[len(sample)]
        if member.part != expected or (sample and member.key != sample[0].key):
            wanted = f"{sample[0].key}.{expected}" if sample else f"KEY.{expected}"
            raise DataError(f"{shard}: found member {member.name}, expected {wanted}")
        sample.append(member)
        if len(sample) == len(SUFFIXES):
            seen.add(member.key)
            yield tuple(sample)
            sample = []
    if sample:
        raise DataError(f"{shard}: sample {sample[0].key} has {len(sample)} of {len(SUFFIXES)} members")
