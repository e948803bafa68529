"""Checkpoints that are whole or absent: written beside the target, flushed, renamed, verified, then trusted.

A checkpoint is one file of trained weights, buffers, optimizer state and position, and a manifest (size and SHA-256)
written after it. It holds no frozen weight and loads with ``weights_only=True``. All randomness follows from the seed
and the position (``position.py``), so no generator's state is in it.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from sigma_framework.errors import RunError
from sigma_framework.training.durable_file import SUFFIX, Sink, digest_of, write_durably

FORMAT = 3
"""Number of the layout of a checkpoint; a program that finds a higher one says so. 3 brought buffers."""
_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_SPARE = 1 << 20
"""Bytes beyond the tensors: the archive's frame, the recipe, the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run after ``step`` steps."""

    step: int
    """Steps done."""
    seed: int
    """The run's seed: with the step it gives every later draw."""
    parameters: Mapping[str, torch.Tensor]
    """Trained weights by name."""
    optimizer: Mapping[str, Any]
    """``optimizer.state_dict()``, Prodigy's ``d`` included."""
    recipe: str
    """The resolved recipe, YAML."""
    average: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Running average of the trained weights by name; empty when none is kept."""
    buffers: Mapping[str, torch.Tensor] | None = None
    """What trained modules record by themselves (``buffers.py``); None in checkpoints of formats before 3."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Length and digest of shapes of each data source, as ``data_module.facts_of`` tells; empty in older ones."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder of checkpoints holds."""

    newest: Checkpoint | None
    """The newest one that verifies."""
    passed_over: tuple[tuple[Path, str], ...]
    """Newer ones that do not, with the reason."""

    @property
    def notes(self) -> list[str]:
        """One line per checkpoint that was passed over."""
        return [f"{path.name} was passed over: {reason}" for path, reason in self.passed_over]


class VerifiedCheckpoints(CheckpointIO):
    """Lightning's way to the disk for the checkpoints of one run folder.

    Args:
        keep: how many to keep, at least 2: the newest and the one to fall back on.
    """

    def __init__(self, keep: int = 2) -> None:
        self.keep = keep

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Writes the file, then its manifest; older ones go when it is read back right.

        Raises:
            RunError: it could not be written whole; earlier checkpoints are untouched.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            refuse_full_disk(target.parent, bytes_of(checkpoint))
            size, digest = write_durably(target, lambda sink: _pack(checkpoint, sink))
            manifest = {"file": target.name, "format": FORMAT, "bytes": size, "sha256": digest}
            write_durably(_manifest(target), lambda sink: _write_text(sink, json.dumps(manifest, indent=1)))
            fault = _fault(target)
        except OSError as error:
            raise RunError(f"{_failed(target)} ({error.strerror or error})") from error
        if fault:
            raise RunError(f"{_failed(target)} (read back: {fault})")
        for old in sorted(target.parent.glob("step-*.pt"))[: -self.keep]:
            if old != target:
                with suppress(OSError):  # one too many does no harm; the next save tries again
                    self.remove_checkpoint(old)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The content of a checkpoint that verifies, on the CPU.

        Raises:
            RunError: it does not verify, or the environment makes loading unsafe.
        """
        content = _content(Path(path))
        if isinstance(content, str):
            raise RunError(f"{path}: {content}")
        return content

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Removes the manifest first: a file without one is never trusted."""
        _manifest(Path(path)).unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies: ``folder/step-00000123.pt``."""
    return folder / f"step-{step:08d}.pt"


def find_newest(folder: Path) -> Found:
    """The newest checkpoint that verifies; changes nothing.

    Raises:
        RunError: a checkpoint is right but made by a newer version, or the environment makes loading unsafe.
    """
    passed: list[tuple[Path, str]] = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        made = _read(path)
        if isinstance(made, Checkpoint):
            return Found(made, tuple(passed))
        passed.append((path, made))
    return Found(None, tuple(passed))


def set_damaged_aside(found: Found) -> None:
    """Keeps what was passed over as ``<name>.damaged``, out of the way of retention.

    Raises:
        RunError: there are checkpoints and none of them verifies.
    """
    for path, _ in found.passed_over:
        path.replace(path.with_name(f"{path.name}.damaged"))
    if found.newest is None and found.passed_over:
        folder = found.passed_over[0][0].parent
        reasons = "; ".join(found.notes)
        raise RunError(f"{folder}: no checkpoint verifies ({reasons}); they are kept as *.damaged; --fresh starts anew")


def sweep_unfinished(folder: Path) -> list[Path]:
    """Removes what a killed save or removal left: temporaries, files and manifests without the other.

    Several files of which none has a manifest are no save's leftovers (a copy without its manifests, perhaps) and stay.
    Only for the holder of the run's lock.

    Returns:
        The checkpoints that were removed.
    """
    files, manifests = set(folder.glob("step-*.pt")), {path.with_suffix(".pt") for path in folder.glob("step-*.json")}
    unfinished = sorted(files - manifests) if files & manifests or len(files) == 1 else []
    orphans = [_manifest(path) for path in manifests if not os.path.lexists(path)]
    for path in (*folder.glob(f".*{SUFFIX}"), *unfinished, *orphans):
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
    return unfinished


def refuse_full_disk(folder: Path, needed: int) -> None:
    """Raises RunError when the disk of ``folder`` has no room for ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"{folder}: a checkpoint needs about {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; earlier ones are "
            "intact; make room and run again"
        )


def bytes_of(checkpoint: object) -> int:
    """About how much disk a checkpoint takes."""
    return _SPARE + sum(tensor.numel() * tensor.element_size() for tensor in _tensors(checkpoint))


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _pack(checkpoint: Mapping[str, Any], sink: Sink) -> None:
    torch.save(_on_cpu(checkpoint), sink)  # type: ignore[arg-type]  # it needs write and flush alone


def _on_cpu(value: Any) -> Any:
    """Tensors detached and on the CPU, so that a checkpoint of a GPU loads anywhere."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(one) for one in value)
    return value


def _write_text(sink: Sink, text: str) -> None:
    sink.write(text.encode())


def _failed(path: Path) -> str:
    return f"{path}: the checkpoint could not be written; earlier ones are intact"


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")


def _fault(path: Path) -> str:
    """Why the file is not what its manifest says; empty when it is."""
    manifest = _read_manifest(path)
    if isinstance(manifest, str):
        return manifest
    try:
        size, digest = digest_of(path)
    except OSError as error:  # a folder in its place, links in a circle, a bad disk
        return f"it cannot be read ({error.strerror})"
    if size != manifest.get("bytes"):
        return f"found {size} bytes, expected {manifest.get('bytes')}"
    return "" if digest == manifest.get("sha256") else "its SHA-256 is not that of its manifest"


def _read_manifest(path: Path) -> dict[str, Any] | str:
    try:
        manifest = json.loads(_manifest(path).read_bytes())
    except FileNotFoundError:
        return "it has no manifest, its save was not finished"
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read ({error})"
    if not isinstance(manifest, dict) or manifest.get("file") != path.name:
        return "its manifest is of something else"
    return manifest


def _content(path: Path) -> dict[str, Any] | str:
    """What the file holds, or why it is not to be trusted.

    Raises:
        RunError: the environment makes loading unsafe.
    """
    if os.environ.get(_UNSAFE, "0").lower() not in ("0", "", "n", "no", "false"):
        raise RunError(f"{_UNSAFE} is set, with which a checkpoint could run code; unset it")
    if fault := _fault(path):
        return fault
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        return f"torch cannot read it ({' '.join(str(error).split())[:120]})"
    return content if isinstance(content, dict) else f"it holds a {type(content).__name__}, expected a checkpoint"


def _read(path: Path) -> Checkpoint | str:
    """A checkpoint as a record, or why it is none."""
    content = _content(path)
    if isinstance(content, str):
        return content
    if isinstance(number := content.get("format"), int) and number > FORMAT:
        raise RunError(
            f"{path}: made by a newer version (format {number}, this one reads {FORMAT}); upgrade, or --fresh"
        )
    try:
        made = Checkpoint(
            step=content["step"],
            seed=content["seed"],
            parameters=content["state_dict"],
            optimizer=content["optimizer_states"][0],
            recipe=content["recipe"],
            average=content.get("average", {}),
            buffers=content.get("buffers"),
            data=content.get("data", {}),
        )
    except (KeyError, IndexError, TypeError) as error:
        return f"it is no checkpoint of a run ({type(error).__name__}: {error})"
    return made if path == path_of(path.parent, made.step) else f"it holds step {made.step}"
