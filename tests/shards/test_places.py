"""Sets behind an address: copies, connections that fail, addresses that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from sigma_framework import DataError, ShardSet
from sigma_framework.shards import check_set, places
from sigma_framework.testing import toy_shards


class ConnectionLost(Exception):
    """Of a library: no ``OSError``, as httpx's and aiohttp's own are none."""


class Shaky(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system behind a connection that fails so often."""

    protocol = "shaky"
    failures: list[Exception] = []  # shared on purpose: instances come and go

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        self.fail()
        return super().cat_file(path, *args, **options)

    def open(self, path: str, *args: Any, **options: Any) -> Any:
        self.fail()
        return super().open(path, *args, **options)

    def fail(self) -> None:
        if self.failures:
            raise self.failures.pop()


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    monkeypatch.setattr(places, "_PAUSE_SECONDS", 0)
    Shaky.failures.clear()
    yield Shaky.failures
    Shaky.failures.clear()


@pytest.mark.parametrize("error", [OSError("reset"), ConnectionLost("no route"), TimeoutError()])
def test_a_connection_that_fails_twice_is_tried_again(shaky: list[Exception], tmp_path: Path, error: Exception) -> None:
    folder = toy_shards(tmp_path / "set")
    shaky += [error] * 2
    remote = ShardSet(f"shaky://{folder}", cache=tmp_path / "cache")
    shaky += [error] * 2
    assert (remote.sample(0).target == ShardSet(folder).sample(0).target).all()
    assert shaky == []


def test_a_connection_that_fails_always_is_our_own_error(shaky: list[Exception], tmp_path: Path) -> None:
    folder = toy_shards(tmp_path / "set")
    shaky += [ConnectionLost("no route")] * 9
    with pytest.raises(DataError, match=r"shaky://.*/manifest\.json: cannot be read, tried 3 times \(no route\)"):
        ShardSet(f"shaky://{folder}", cache=tmp_path / "cache")
    shaky.clear()
    remote = ShardSet(f"shaky://{folder}", cache=tmp_path / "cache")
    shaky += [ConnectionLost("no route")] * 9
    with pytest.raises(DataError, match=r"00000\.tar: cannot be read, tried 3 times"):
        remote.sample(0)
    assert list((tmp_path / "cache").rglob("*fetching")) == []


@pytest.mark.parametrize(("failures", "read"), [(2, True), (3, False)])
def test_a_local_read_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, read: bool
) -> None:
    shards = ShardSet(toy_shards(tmp_path / "set"))
    left, opened = [OSError(5, "Input/output error")] * failures, Path.open

    def shaky_open(path: Path, *args: Any, **options: Any) -> Any:
        if path.suffix == ".tar" and left:
            raise left.pop()
        return opened(path, *args, **options)

    monkeypatch.setattr(places, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(Path, "open", shaky_open)
    if read:
        assert shards.sample(0).document.subjects
    else:
        with pytest.raises(DataError, match=r"00000\.tar, byte \d+: cannot be read, tried 3 times .*Input/output"):
            shards.sample(0)


def test_a_shard_that_vanished_is_told(tmp_path: Path) -> None:
    folder = toy_shards(tmp_path / "set")
    shards = ShardSet(folder)
    (folder / "00000.tar").unlink()
    with pytest.raises(DataError, match=r"00000\.tar: not there, though the manifest lists it"):
        shards.sample(0)


def test_a_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    folder = toy_shards(tmp_path / "set")
    address, cache = f"file://{folder}", tmp_path / "cache"
    ShardSet(address, cache).sample(0)
    (copy,) = cache.rglob("*.tar")
    sound = copy.read_bytes()
    for read in (lambda: ShardSet(address, cache).sample(0), lambda: check_set(address, cache)):
        broken = bytearray(sound)
        broken[600] ^= 1  # within the first member
        copy.write_bytes(broken)
        read()
        assert copy.read_bytes() == sound
    assert check_set(address, cache).problems == ()


def test_damage_at_the_address_itself_is_told(tmp_path: Path) -> None:
    folder = toy_shards(tmp_path / "set")
    content = bytearray((folder / "00000.tar").read_bytes())
    content[600] ^= 1
    (folder / "00000.tar").write_bytes(content)
    remote = ShardSet(f"file://{folder}", cache=tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(DataError, match="hash differs"):
            remote.members(0)
    assert remote.sample(1).document.subjects, "the others are read"
    assert check_set(f"file://{folder}", tmp_path / "cache").damaged == ("00000.tar/00000000",)


def test_a_set_is_found_behind_an_address(tmp_path: Path) -> None:
    folder = toy_shards(tmp_path / "set")
    remote = ShardSet(f"file://{folder}", cache=tmp_path / "cache")
    assert (remote.sample(5).target == ShardSet(folder).sample(5).target).all()
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == 1, "only the shard that was asked for is copied"
    (folder / "00001.tar").rename(tmp_path / "away.tar")
    assert remote.sample(5).example().subjects, "the copy is used"
    with pytest.raises(DataError, match=r"00000\.tar: not there"):
        (folder / "00000.tar").unlink()
        remote.sample(0)


def test_a_copy_that_was_cut_is_fetched_again(tmp_path: Path) -> None:
    folder = toy_shards(tmp_path / "set")
    remote = ShardSet(f"file://{folder}", cache=tmp_path / "cache")
    remote.sample(0)
    (copy,) = (tmp_path / "cache").rglob("*.tar")
    copy.write_bytes(copy.read_bytes()[:1000])
    assert remote.sample(0).example().subjects


@pytest.mark.parametrize("address", ["pipe:cat x", "PIPE:curl y", "cmd:z"])
def test_commands_are_no_addresses(address: str) -> None:
    with pytest.raises(DataError, match="refused"):
        ShardSet(address)
