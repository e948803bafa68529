"""Checkpoints that are whole or absent: written beside the target, flushed, renamed, and verified when read.

A checkpoint is one file of trained weights, optimizer state and position, with a manifest (size and SHA-256) written
after it. It holds no frozen weight and loads with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sigma_framework.errors import RunError

KEEP = 2
"""Checkpoints kept: the newest and the one to fall back on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run after ``step`` steps."""

    step: int
    """Steps done."""
    parameters: Mapping[str, torch.Tensor]
    """Trained weights by name."""
    optimizer: Mapping[str, Any]
    """``optimizer.state_dict()``."""
    recipe: str
    """The resolved recipe, YAML."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes ``folder/step-00000123.pt`` and its manifest; older ones beyond ``KEEP`` go once it is verified.

    Raises:
        RunError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    path = folder / f"step-{checkpoint.step:08d}.pt"
    buffer = io.BytesIO()
    content = {name: getattr(checkpoint, name) for name in ("step", "parameters", "optimizer", "recipe")}
    content["parameters"] = {name: value.detach().cpu() for name, value in checkpoint.parameters.items()}
    torch.save(content, buffer)
    data = buffer.getvalue()
    manifest = {
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "step": checkpoint.step,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
        write_durably(_manifest_path(path), json.dumps(manifest, indent=1).encode())
    except OSError as error:
        raise RunError(
            f"{path}: the checkpoint could not be written ({error.strerror}); earlier ones are intact"
        ) from error
    if _verified(path) is not None:
        for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
            if old != path:
                _manifest_path(old).unlink(missing_ok=True)
                old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, and a note per damaged one, which is kept as ``<name>.damaged``.

    Raises:
        RunError: there are checkpoints and none of them verifies.
    """
    notes: list[str] = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        data = _verified(path)
        if data is not None:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return Checkpoint(**content), notes
        notes.append(f"{path.name} is damaged or unfinished and was passed over")
        path.replace(path.with_name(f"{path.name}.damaged"))
    if notes:
        raise RunError(f"{folder}: no checkpoint verifies; they are kept as *.damaged; --fresh starts anew")
    return None, notes


def sweep_temporaries(folder: Path) -> int:
    """Removes what an interrupted save left behind; returns how many files."""
    left = list(folder.glob(".*.writing")) if folder.is_dir() else []
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def write_durably(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` or leaves it as it was, also when power fails.

    The temporary file lies in the same folder: a rename across file systems would be a copy.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _manifest_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _verified(path: Path) -> bytes | None:
    """The file's bytes when its manifest says they are right."""
    try:
        manifest = json.loads(_manifest_path(path).read_text())
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    right = len(data) == manifest.get("bytes") and hashlib.sha256(data).hexdigest() == manifest.get("sha256")
    return data if right else None
