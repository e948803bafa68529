"""Members from strangers who also wrote the lists: refused, nothing run, nothing written outside, little memory."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sigma_framework import ShardSet, SigmaError
from sigma_framework.dataset_build import record_of
from sigma_framework.shards import Encoding, check_set, encode_record
from sigma_framework.testing import toy_example

Entry = tuple[str, bytes, bytes]
"""Name, content, type of a tar member."""
KEY = "00000000"


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def png(width: int, height: int, mode: int = 2, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture(mode: str, size: tuple[int, int], form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format=form)
    return buffer.getvalue()


def members() -> list[Entry]:
    sample = encode_record(record_of(toy_example(2, size_hw=(16, 16), identity_size=16)), KEY, Encoding())
    return [(f"{KEY}.{name}", data, tarfile.REGTYPE) for name, data in sorted(sample.members.items())]


def document(**changes: Any) -> bytes:
    (text,) = (data for name, data, _ in members() if name.endswith("json"))
    return json.dumps({**json.loads(text), **changes}).encode()


def instead(part: str, content: bytes | None = None, name: str | None = None, kind: bytes | None = None) -> list[Entry]:
    """The five members with one of them replaced."""
    return [
        (name or own, data if content is None else content, kind or own_kind)
        if own.split(".")[1] == part
        else (own, data, own_kind)
        for own, data, own_kind in members()
    ]


def added(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> list[Entry]:
    return [*members(), (name, content, kind)]


def write(folder: Path, entries: list[Entry]) -> Path:
    """A set whose index and manifest agree with whatever is in the tar file."""
    folder.mkdir()
    buffer = io.BytesIO()
    rows: dict[str, list[int]] = {}
    hashes: dict[str, list[Any]] = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data, kind in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = len(data)  # also a link's, which other readers skip
            tar.addfile(info, io.BytesIO(data))
            if len(rows) < 5:
                rows[name] = [tar.offset - -(-info.size // 512) * 512, info.size]
                hashes[name] = [info.size, hashlib.sha256(data).hexdigest()]
    content = buffer.getvalue()
    row = {"key": KEY, "subjects": 2, "size": [16, 16], "members": rows}
    index = {"version": 1, "shard": "00000.tar", "samples": [row]}
    text = json.dumps(index).encode()
    entry = {
        "file": "00000.tar",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "index_sha256": hashlib.sha256(text).hexdigest(),
        "samples": 1,
        "members": hashes,
    }
    (folder / "00000.tar").write_bytes(content)
    (folder / "00000.tar.idx.json").write_bytes(text)
    (folder / "manifest.json").write_text(json.dumps({"version": 1, "samples": 1, "shards": [entry]}))
    return folder


HOSTILE: dict[str, Callable[[], list[Entry]]] = {
    "pickle": lambda: instead("target", pickle.dumps(Bomb()), f"{KEY}.target.pkl"),
    "pickle as png": lambda: instead("target", pickle.dumps(Bomb())),
    "pickle as json": lambda: instead("json", pickle.dumps(Bomb())),
    "torch file": lambda: instead("depth", b"PK\x03\x04", f"{KEY}.depth.pth"),
    "pyd": lambda: instead("masks", b"MZ", f"{KEY}.masks.pyd"),
    "npy of objects": lambda: instead("depth", b"\x93NUMPY", f"{KEY}.depth.npy"),
    "eps as png": lambda: instead("target", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n"),
    "eps": lambda: instead("target", b"%!PS", f"{KEY}.target.eps"),
    "svg": lambda: instead("target", b"<svg/>", f"{KEY}.target.svg"),
    "jpeg as png": lambda: instead("target", picture("RGB", (16, 16), "JPEG")),
    "gif as png": lambda: instead("target", picture("P", (16, 16), "GIF")),
    "parent": lambda: instead("target", name="../x.target.png"),
    "deep parent": lambda: instead("target", name=f"a/../../{KEY}.target.png"),
    "absolute": lambda: instead("target", name=f"/tmp/{KEY}.target.png"),
    "windows": lambda: instead("target", name=f"C:\\{KEY}.target.png"),
    "folder": lambda: instead("target", name=f"a/{KEY}.target.png"),
    "newline": lambda: instead("target", name=f"{KEY}\n.target.png"),
    "nul in the middle": lambda: instead("target", name=f"{KEY}.target.png\0.pkl"),
    "dot in key": lambda: instead("target", name=f"v1.5_{KEY}.target.png"),
    "upper case": lambda: instead("target", name=f"{KEY}.target.PNG"),
    "no ending": lambda: instead("target", name=KEY),
    "hidden": lambda: instead("target", name=f"._{KEY}.target.png"),
    "long": lambda: instead("target", name=f"{'a' * 90}.target.png"),
    "symbolic link": lambda: instead("target", kind=tarfile.SYMTYPE),
    "hard link": lambda: instead("target", kind=tarfile.LNKTYPE),
    "device": lambda: instead("target", kind=tarfile.CHRTYPE),
    "fifo": lambda: instead("target", kind=tarfile.FIFOTYPE),
    "directory": lambda: instead("target", kind=tarfile.DIRTYPE),
    "a sixth member": lambda: added(f"{KEY}.extra.pkl", pickle.dumps(Bomb())),
    "a sixth of a known kind": lambda: added(f"{KEY}.target.jpg"),
    "readme": lambda: added("README.md"),
    "a link behind": lambda: added("link", kind=tarfile.SYMTYPE),
    "bomb": lambda: instead("target", png(30_000, 30_000)),
    "bomb that says its size": lambda: [
        (name, document(size=[16_000, 16_000]) if name.endswith("json") else data, kind)
        for name, data, kind in instead("target", png(16_000, 16_000))
    ],
    "bomb of 500 megabytes": lambda: [
        (name, document(size=[13_000, 13_000]) if name.endswith("json") else data, kind)
        for name, data, kind in instead("target", png(13_000, 13_000))
    ],
    "bomb in masks": lambda: instead("masks", png(65_535, 65_535, mode=0)),
    "short picture": lambda: instead("target", png(16, 16, rows=b"\0" * 10)),
    "nan": lambda: instead("json", document(licence="x").replace(b'"x"', b"NaN")),
    "a key twice": lambda: instead("json", b'{"version": 1, ' + document()[1:]),
    "half a surrogate pair": lambda: instead("json", document(key="\ud800")),
    "utf-16": lambda: instead("json", document().decode().encode("utf-16")),
    "unknown key": lambda: instead("json", document(__reduce__="os.system")),
    "deep json": lambda: instead("json", b"[" * 100_000 + b"]" * 100_000),
    "huge number": lambda: instead("json", document(version=1).replace(b'"version": 1', b'"version": ' + b"9" * 5000)),
    "deep provenance": lambda: instead(
        "json", document(licence="x").replace(b'"x"', b'"x", "provenance": {"a": ' + b"[" * 90 + b"]" * 90 + b"}", 1)
    ),
    "subjects and pictures disagree": lambda: instead("json", document(subjects=[])),
    "mask without pixel": lambda: instead("masks", picture("1", (16, 32), "PNG")),
}


def test_there_are_at_least_forty() -> None:
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", HOSTILE[name]())
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    tracemalloc.start()
    try:
        problems = [str(problem) for problem in check_set(folder).problems]
    except SigmaError as error:
        problems = [str(error)]
    assert problems
    assert "megabyte" not in name or any("169 megapixels" in problem for problem in problems)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "a small file made much memory be taken"
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "something was written"


def test_the_forger_can_also_write_a_sound_set(tmp_path: Path) -> None:
    """Else the cases above might fail for another reason."""
    folder = write(tmp_path / "set", members())
    assert check_set(folder).problems == ()
    assert np.array_equal(ShardSet(folder).sample(0).target, toy_example(2, size_hw=(16, 16)).target)
