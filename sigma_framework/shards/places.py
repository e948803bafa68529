"""Where a set lies: a local folder, or an address that fsspec reads, with a local copy of each shard that is used."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sigma_framework.errors import DataError
from sigma_framework.shards.layout import MAX_CATALOGUE_BYTES

_TRIES = 3
"""A read from elsewhere is tried so often."""
_PAUSE_SECONDS = 0.2
_REFUSED = ("pipe", "cmd", "exec")


class SetPlace(Protocol):
    """A folder with shards."""

    def read_small(self, name: str) -> bytes:
        """A manifest or an index, whole; FileNotFoundError when it is not there, DataError when it cannot be read."""
        ...

    def read(self, name: str, offset: int, size: int, length: int) -> bytes:
        """``size`` bytes of a shard of ``length`` bytes; DataError when they are not there."""
        ...

    def local(self, name: str) -> Path:
        """The shard as a local file."""
        ...

    def renew(self, name: str) -> bool:
        """Copies a shard anew whose copy may be damaged; False where there is no copy."""
        ...

    def tar_files(self) -> frozenset[str] | None:
        """Names of all tar files that lie there; None where that cannot be asked."""
        ...


def open_place(path: str | Path, cache: str | Path | None) -> SetPlace:
    """The place that a recipe or a command line names.

    Raises:
        DataError: not a folder, or an address that would run a program.
    """
    text = str(path)
    scheme, mark, _ = text.partition(":")
    if mark and scheme.lower() in _REFUSED:
        raise DataError(f"{text[:60]}: refused; expected a folder or the address of one, never a command")
    if "://" in text or "::" in text:
        folder = Path(cache) if cache is not None else Path("~/.cache/sigma_framework/shards")
        return RemoteFolder(text.rstrip("/"), folder.expanduser())
    if not Path(text).is_dir():
        what = "is a file, expected the folder that holds the shards" if Path(text).exists() else "no such folder"
        raise DataError(f"{text}: {what}")
    return LocalFolder(Path(text))


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """Shards on this machine."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def read_small(self, name: str) -> bytes:
        """As in ``SetPlace``."""
        path = self.folder / name
        try:
            if path.stat().st_size > MAX_CATALOGUE_BYTES:
                raise DataError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_CATALOGUE_BYTES}")
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:  # a folder of that name, no permission, a vanished mount
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error

    def read(self, name: str, offset: int, size: int, length: int) -> bytes:
        """As in ``SetPlace``."""
        return _read_part(self.folder / name, offset, size, length)

    def local(self, name: str) -> Path:
        """As in ``SetPlace``."""
        return self.folder / name

    def renew(self, name: str) -> bool:
        """As in ``SetPlace``."""
        return False

    def tar_files(self) -> frozenset[str] | None:
        """As in ``SetPlace``."""
        return frozenset(path.name for path in self.folder.glob("*.tar"))


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """Shards behind an address; each is copied whole into the cache when it is first read."""

    address: str
    cache: Path

    def __str__(self) -> str:
        return self.address

    def read_small(self, name: str) -> bytes:
        """As in ``SetPlace``; never from the cache, so that a set that grew is seen."""
        what = f"{self.address}/{name}"
        content: bytes = _tried(lambda: _file_system(self.address).cat_file(f"{_bare(self.address)}/{name}"), what)
        return content

    def read(self, name: str, offset: int, size: int, length: int) -> bytes:
        """As in ``SetPlace``."""
        path = self._path(name)
        if not path.is_file() or path.stat().st_size != length:
            self._fetch(name, path, length)
        return _read_part(path, offset, size, length)

    def local(self, name: str) -> Path:
        """As in ``SetPlace``."""
        path = self._path(name)
        if not path.is_file():
            self._fetch(name, path, None)
        return path

    def renew(self, name: str) -> bool:
        """As in ``SetPlace``."""
        self._fetch(name, self._path(name), None)
        return True

    def tar_files(self) -> frozenset[str] | None:
        """As in ``SetPlace``; not every kind of address can list what lies there."""
        return None

    def _path(self, name: str) -> Path:
        return self.cache / hashlib.sha256(self.address.encode()).hexdigest()[:16] / name

    def _fetch(self, name: str, path: Path, length: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name}.{os.getpid()}.fetching")

        def copy() -> None:
            source = _file_system(self.address).open(f"{_bare(self.address)}/{name}", "rb")
            with source, temporary.open("wb") as target:
                shutil.copyfileobj(source, target)
            if length is not None and temporary.stat().st_size != length:
                raise OSError(f"found {temporary.stat().st_size} bytes, the manifest says {length}")

        try:
            _tried(copy, f"{self.address}/{name}")
            os.replace(temporary, path)
        except FileNotFoundError as error:
            raise DataError(f"{self.address}/{name}: not there, though the manifest lists it") from error
        finally:
            temporary.unlink(missing_ok=True)


def _tried(work: Any, what: str) -> Any:
    """The result of ``work``; an error of the connection is tried again twice."""
    for attempt in range(_TRIES):
        try:
            return work()
        except (FileNotFoundError, DataError):
            raise
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__ == "builtins":
                raise  # ours, or the library's defect; what libraries say of a connection has a class of their own
            if attempt + 1 == _TRIES:
                raise DataError(f"{what}: cannot be read, tried {_TRIES} times ({error})") from error
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")


def _file_system(address: str) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)[0]
    except (ValueError, ImportError) as error:
        raise DataError(f"{address}: cannot be opened ({error})") from error


def _bare(address: str) -> str:
    import fsspec

    return str(fsspec.core.url_to_fs(address)[1])


def _read_part(path: Path, offset: int, size: int, length: int) -> bytes:
    def read() -> tuple[int, bytes]:
        with path.open("rb") as file:
            file.seek(offset)
            return os.fstat(file.fileno()).st_size, file.read(size)

    try:  # also a local folder may lie behind a network
        found, content = _tried(read, f"{path.name}, byte {offset}")
    except FileNotFoundError as error:
        raise DataError(f"{path.name}: not there, though the manifest lists it; copy the set again") from error
    if len(content) < size:
        early = (
            f"ends early: {found} bytes" if found < length else f"ends early inside bytes {offset} to {offset + size}"
        )
        raise DataError(f"{path.name}: {early}, the manifest says {length}")
    return bytes(content)
