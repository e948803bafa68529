"""A file that is whole or absent, also after a crash or with a full disk; every system call that can fail is here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sigma_framework.errors import RunInterrupted

SUFFIX = ".writing"
"""Ends the hidden name under which a file is written."""
_CHUNK = 1 << 22


class Sink(Protocol):
    """What a writer is given."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Appends; returns how many bytes."""
        ...

    def flush(self) -> None:
        """Does nothing; torch asks for it."""
        ...


class _CountedFile:
    """Bytes on their way to a file, with their number and SHA-256; remembers the first error.

    torch's own writer hides what went wrong ("unexpected pos"), so the cause is kept here.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.bytes, self.digest = descriptor, 0, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview, /) -> int:
        whole = memoryview(data).cast("B")
        left = whole
        try:
            while left:
                left = left[os.write(self.descriptor, left[:_CHUNK]) :]
        except OSError as error:
            self.error = self.error or error
            raise
        self.digest.update(whole)
        self.bytes += len(whole)
        return len(whole)

    def flush(self) -> None:
        """Nothing is buffered here."""


def write_durably(path: Path, fill: Callable[[Sink], None]) -> tuple[int, str]:
    """Replaces ``path`` by what ``fill`` writes, or leaves it as it was, also when power fails.

    The temporary file lies in the same folder: a rename across file systems would be a copy.

    Returns:
        (bytes, SHA-256) of what was written.

    Raises:
        OSError: a system call failed; ``path`` is as it was, unless only the last one, the sync of the folder, failed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            file = _CountedFile(descriptor)
            try:
                fill(file)
            except Exception as error:
                if cause := file.error or _interruption_behind(error):
                    raise cause from None
                raise
            os.fsync(descriptor)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    with _opened(path.parent, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)
    return file.bytes, file.digest.hexdigest()


def _interruption_behind(error: BaseException | None) -> BaseException | None:
    """A signal that ended the writing, which torch's writer turns into a complaint about its position."""
    while error is not None and not isinstance(error, (RunInterrupted, KeyboardInterrupt, SystemExit)):
        error = error.__context__
    return error


def digest_of(path: Path) -> tuple[int, str]:
    """(bytes, SHA-256) of a file as it lies on the disk."""
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            count += len(chunk)
    return count, digest.hexdigest()


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """A descriptor that is closed once; an error of closing counts, unless there is one already."""
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)
