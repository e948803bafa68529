"""Adapters in other programs' formats; reads and writes safetensors files byte by byte, without torch.

ComfyUI reads the names of diffusers (``transformer.<module>.lora_A.weight``) and takes the scale from
``<module>.alpha``; without that tensor it assumes alpha = rank, which changes the strength of an adapter
with another alpha.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_framework.errors import WeightsError, nearest_name

FORMATS = ("comfyui",)
ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""What training writes into ``<run.dir>/adapter``."""
_MAX_HEADER = 100_000_000
_DOWN, _UP, _ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
_DIFFUSERS_METADATA = "lora_adapter_metadata"


def export_adapter(adapter: Path, target: str, output: Path | None = None) -> Path:
    """Writes an adapter for another program and returns the new file's path.

    Args:
        adapter: a safetensors file, or a folder with ``pytorch_lora_weights.safetensors`` in it.
        target: ``comfyui``.
        output: the new file; None is ``<adapter's name>.<target>.safetensors`` beside it.

    Raises:
        WeightsError: unknown format, no such file, or not an adapter.
    """
    if target not in FORMATS:
        remedy = nearest_name(target, FORMATS) or f"formats: {', '.join(FORMATS)}"
        raise WeightsError(f"found the format '{target}', expected one of: {', '.join(FORMATS)}; {remedy}")
    source = adapter / ADAPTER_FILE if adapter.is_dir() else adapter
    header, body = _read(source)
    metadata = header.pop("__metadata__", {})
    layers = _layers(source, header)
    scale = _scale(source, metadata)
    for layer, rank in layers.items():
        if f"{layer}{_ALPHA}" not in header:
            begin = len(body)
            body += struct.pack("<f", rank * scale)
            header[f"{layer}{_ALPHA}"] = {"dtype": "F32", "shape": [], "data_offsets": [begin, len(body)]}
    place = output or source.with_name(f"{source.stem}.{target}.safetensors")
    facts = {name: value for name, value in metadata.items() if name != _DIFFUSERS_METADATA}  # readers refuse both
    _write(place, {"__metadata__": {**facts, "format": "pt"}, **header}, body)
    return place


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes of a safetensors file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}; give an adapter's file or folder") from error
    if len(content) < 8:
        raise WeightsError(f"{path}: found {len(content)} bytes, expected a safetensors file")
    (size,) = struct.unpack("<Q", content[:8])
    if size > min(_MAX_HEADER, len(content) - 8):
        raise WeightsError(f"{path}: not a safetensors file, or cut off; expected an adapter in safetensors format")
    try:
        header = json.loads(content[8 : 8 + size])
    except ValueError as error:
        raise WeightsError(f"{path}: not a safetensors file: its header is not JSON") from error
    body = content[8 + size :]
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise WeightsError(f"{path}: not a safetensors file: its header is not a map of tensors")
    ends = [entry.get("data_offsets", [0, 0])[1] for name, entry in header.items() if name != "__metadata__"]
    if max(ends, default=0) != len(body):
        raise WeightsError(f"{path}: damaged: expected {max(ends, default=0)} bytes of weights, found {len(body)}")
    return header, body


def _layers(path: Path, header: Mapping[str, Any]) -> dict[str, int]:
    """Rank by layer; every layer must have both of its matrices, and nothing else may be there."""
    layers = {name.removesuffix(_DOWN): entry["shape"][0] for name, entry in header.items() if name.endswith(_DOWN)}
    if not layers:
        first = ", ".join(list(header)[:3]) or "nothing"
        raise WeightsError(f"{path}: found no adapter weights, expected names ending in {_DOWN}; first names: {first}")
    expected = {f"{layer}{ending}" for layer in layers for ending in (_DOWN, _UP, _ALPHA)}
    lacking = [layer for layer in layers if f"{layer}{_UP}" not in header]
    strange = [name for name in header if name not in expected]
    if lacking or strange:
        raise WeightsError(
            f"{path}: {len(lacking)} of {len(layers)} layers lack {_UP} and {len(strange)} tensors are not an adapter's"
            f"; first: {(lacking or strange)[0]}"
        )
    return layers


def _scale(path: Path, metadata: Mapping[str, str]) -> float:
    """alpha / rank from the file's metadata; 1.0 when it says nothing, as every reader assumes."""
    try:
        stored = json.loads(metadata.get(_DIFFUSERS_METADATA, "{}"))
        facts = {name.rpartition(".")[2]: value for name, value in stored.items()}
        scale = float(facts.get("lora_alpha", 1)) / float(facts.get("r", facts.get("lora_alpha", 1)))
        if facts.get("use_rslora"):
            scale *= math.sqrt(float(facts["r"]))
    except (ValueError, TypeError, AttributeError, ZeroDivisionError, KeyError) as error:
        raise WeightsError(f"{path}: its metadata {_DIFFUSERS_METADATA} cannot be read") from error
    if facts.get("alpha_pattern") or facts.get("rank_pattern"):
        raise WeightsError(f"{path}: its layers have ranks or scales of their own, which this format cannot say")
    return scale


def _write(path: Path, header: Mapping[str, Any], body: bytes) -> None:
    """The file in one step: it is either the old one or the whole new one."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text + body)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WeightsError(f"{path}: cannot be written: {error.strerror}") from error
