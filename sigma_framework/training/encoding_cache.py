"""Encoded pictures and prompts on the disk, so that a frozen encoder sees each of them once.

An entry is found by the content that was encoded and by the encoder itself. Which encoder it is, is read off what it
makes of a fixed picture and a fixed prompt: other weights, another precision or another library answer differently.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from sigma_framework.generation import image_tensor
from sigma_framework.protocols import Backbone, SelfPlacing
from sigma_framework.types import RgbImage, Role, TextTokens, Tokens

_DIGEST = 32
"""Bytes before an entry's tensors: their SHA-256."""
_PROBE_SIDE = 64
_PARTS = 32
"""Parts of the room, of which a process fills one before it counts again: up to 32 processes do not fill more."""
_LEFT_BEHIND = 3600
"""Seconds after which an unfinished entry is nobody's."""
SUFFIX = ".tensors"
REST_AFTER = 200
"""Prompts found one after another before text encoders rest: moving them takes about as long as encoding so many."""

Entry = Mapping[str, torch.Tensor]


class EncodingCache:
    """What a backbone's encoders make of pictures and prompts, kept in a folder.

    Each picture and prompt is encoded by itself: in a batch an encoder's last bits depend on its neighbours, and a run
    must not depend on what was in the cache. When the folder is full nothing is added and nothing goes: examples
    come round in turn, so that replacing the oldest would replace all.

    Args:
        folder: shared by runs; several processes may write into it.
        backbone: encodes what is missing.
        limit_bytes: size of the folder at which it is full, kept to within one entry per process.
    """

    def __init__(self, folder: Path, backbone: Backbone, limit_bytes: int) -> None:
        self.folder, self.backbone, self.limit_bytes = folder, backbone, limit_bytes
        self.encoded = 0
        """How many entries this process had to make."""
        self.rests_encoders = False
        """Whether text encoders leave the device while all prompts are found."""
        self._found_in_a_row = REST_AFTER
        self._encoder: str | None = None
        self.full = False
        """Whether something found no room."""
        self._may_add = 0
        """Bytes until the folder is counted again."""

    def images(self, pictures: Sequence[RgbImage], role: Role) -> Tokens:
        """``encode_image`` of pictures of one size."""
        entries = [
            self._entry(_key(role, one.shape, one.tobytes()), _image(self.backbone, one, role)) for one in pictures
        ]
        device = self.backbone.device
        values = torch.cat([entry["values"] for entry in entries])
        return Tokens(values=values.to(device), ids=entries[0]["ids"].to(device))

    def prompts(self, texts: Sequence[str]) -> TextTokens:
        """``encode_prompt``."""
        before = self.encoded
        entries = [self._entry(_key("text", (), one.encode()), _text(self.backbone, one)) for one in texts]
        self._found_in_a_row = self._found_in_a_row + len(texts) if self.encoded == before else 0
        if self.rests_encoders and self._found_in_a_row >= REST_AFTER and isinstance(self.backbone, SelfPlacing):
            self.backbone.rest_text_encoders()
        device = self.backbone.device
        pooled = torch.cat([entry["pooled"] for entry in entries]).to(device) if "pooled" in entries[0] else None
        values = torch.cat([entry["values"] for entry in entries])
        return TextTokens(values=values.to(device), ids=entries[0]["ids"].to(device), pooled=pooled)

    def _entry(self, key: str, make: Callable[[], Entry]) -> Entry:
        path = self.folder / self._encoder_name() / key[:2] / f"{key}{SUFFIX}"
        found = _read(path)
        if found is None:
            found = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
            self.encoded += 1
            self._add(path, save(dict(found)))
        return found

    def _add(self, path: Path, data: bytes) -> None:
        """Whole or absent; a disk that takes no more only costs time, so nobody is stopped by it."""
        if not self._has_room(len(data) + _DIGEST):
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(hashlib.sha256(data).digest() + data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            self._may_add -= len(data) + _DIGEST

    def _has_room(self, needed: int) -> bool:
        """Other processes fill the folder too: each takes a part of the room and then counts again."""
        if not self.full and self._may_add < needed:
            room = self.limit_bytes - sum(self._sizes().values())
            self.full = room < needed
            self._may_add = max(room // _PARTS, needed)
        return not self.full

    def _sizes(self) -> dict[str, int]:
        """Bytes in the folder by encoder; what a killed process left half written goes."""
        sizes: dict[str, int] = {}
        for path in self.folder.glob("*/*/*"):
            with suppress(OSError):  # gone meanwhile
                facts = path.stat()
                if path.suffix == SUFFIX:
                    sizes[path.parts[-3]] = sizes.get(path.parts[-3], 0) + facts.st_size
                elif path.name.startswith(".") and time.time() - facts.st_mtime > _LEFT_BEHIND:
                    path.unlink()
        return sizes

    def remark(self) -> str:
        """What to do about a full folder; empty when it is not."""
        if not self.full:
            return ""
        sizes = self._sizes()
        own, others = sizes.pop(self._encoder_name(), 0), sum(sizes.values())
        text = (
            f"train.cache: {self.folder} is full ({own / 1e9:.3g} GB of this encoder, {others / 1e9:.3g} GB of others, "
            f"train.cache_gb is {self.limit_bytes / 1e9:.3g}); what is missing is encoded every time"
        )
        return f"{text}; the folders beside {self._encoder_name()} are of other encoders" if others else text

    def _encoder_name(self) -> str:
        if self._encoder is None:
            rows = np.arange(_PROBE_SIDE, dtype=np.uint8)
            probe = np.stack(np.broadcast_arrays(rows[:, None] * 3, rows * 4, rows[:, None] ^ rows), axis=-1)
            digest = hashlib.sha256()
            for entry in (_image(self.backbone, probe, "target")(), _text(self.backbone, "a red ball")()):
                for name, tensor in sorted(entry.items()):
                    plain = tensor.detach().cpu().contiguous()
                    digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
                    digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
            self._encoder = digest.hexdigest()[:16]
        return self._encoder


def _image(backbone: Backbone, picture: RgbImage, role: Role) -> Callable[[], Entry]:
    def make() -> Entry:
        with torch.no_grad():
            tokens = backbone.encode_image(image_tensor([picture]), role)
        return {"values": tokens.values, "ids": tokens.ids}

    return make


def _text(backbone: Backbone, text: str) -> Callable[[], Entry]:
    def make() -> Entry:
        with torch.no_grad():
            tokens = backbone.encode_prompt([text])
        pooled = {} if tokens.pooled is None else {"pooled": tokens.pooled}
        return {"values": tokens.values, "ids": tokens.ids, **pooled}

    return make


def _key(kind: str, shape: tuple[int, ...], content: bytes) -> str:
    digest = hashlib.sha256(f"{kind} {shape}\n".encode())
    digest.update(content)
    return digest.hexdigest()


def _read(path: Path) -> Entry | None:
    """An entry that is what was written, else nothing."""
    try:
        data = path.read_bytes()
        if data[:_DIGEST] != hashlib.sha256(data[_DIGEST:]).digest():
            return None
        found: Entry = load(data[_DIGEST:])
    except (OSError, SafetensorError):
        return None
    return found
