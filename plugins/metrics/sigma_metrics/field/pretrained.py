"""Models of transformers by hub id or folder: found early, loaded late, shared, with Pillow's preprocessing."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import PIL
import torch
from PIL import Image
from torch import Tensor

from sigma_framework import WeightsError

_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError)
_LIBRARIES = ("huggingface_hub", "safetensors", "safetensors_rust", "httpx", "httpx2", "requests")
_SETTINGS = ("size", "crop_size", "do_center_crop", "resample", "image_mean", "image_std", "ensure_multiple_of")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a model lies, known to be there."""

    metric: str
    """Who asks for it; named in messages."""
    source: str
    """Folder or hub id."""
    revision: str | None
    """Of a hub id."""
    device: str
    """``cpu`` or ``cuda``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """A frozen model with what it needs to read pictures and texts."""

    model: Any
    """In evaluation mode."""
    processor: Any
    """Image processor with the Pillow back end."""
    facts: Mapping[str, Any]
    """What a number made with it must say: weights, back end, sizes, versions."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Preprocessed pictures, (b, 3, h, w) on the model's device."""
        read = self.processor(images=[one.convert("RGB") for one in pictures], return_tensors="pt")
        return read["pixel_values"].to(self.device)


def choose_device(device: str) -> str:
    """What ``auto`` stands for on this machine; any other name as it is."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def find_model(metric: str, weights: str, revision: str | None, device: str) -> Place:
    """Makes sure that the model is there, by its ``config.json`` alone.

    Raises:
        WeightsError: no such folder, no such model, gated, or not on this machine and offline.
    """
    folder = Path(weights).expanduser()
    chosen = choose_device(device)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise WeightsError(f"{metric}: {weights} has no config.json; expected a folder that transformers wrote")
        return Place(metric=metric, source=str(folder), revision=None, device=chosen)
    if folder.is_absolute() or weights.startswith((".", "~")) or weights.count("/") != 1:
        raise WeightsError(
            f"{metric}: {weights} is not a folder here; expected one that transformers wrote, or a hub id"
        )
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(weights, "config.json", revision=revision)
    except Exception as error:
        raise _fault(metric, weights, error) from error
    return Place(metric=metric, source=weights, revision=revision, device=chosen)


@functools.lru_cache(maxsize=8)
def _load(source: str, revision: str | None, device: str, auto: str, metric: str) -> Pretrained:
    import transformers

    options = {"revision": revision} if revision is not None else {}
    try:
        with _quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(source, backend="pil", **options)
            model = getattr(transformers, auto).from_pretrained(source, dtype=torch.float32, **options)
    except Exception as error:
        _raise_reading_fault(metric, source, error)
    if not type(processor).__name__.endswith("Pil"):
        raise WeightsError(
            f"{metric}: {source} is read by {type(processor).__name__}, which has no Pillow back end; name another"
        )
    facts = {
        "weights": source if not Path(source).is_dir() else Path(source).name,
        "revision": revision or getattr(model.config, "_commit_hash", None) or "local",
        "model": type(model).__name__,
        "preprocessing": ", ".join(
            (type(processor).__name__, f"transformers {transformers.__version__}", f"Pillow {PIL.__version__}")
        ),
        **{key: _plain(getattr(processor, key)) for key in _SETTINGS if getattr(processor, key, None) is not None},
    }
    model = model.requires_grad_(False).eval().to(device)
    return Pretrained(model=model, processor=processor, facts=facts)


def load_model(place: Place, auto: str = "AutoModel") -> Pretrained:
    """The model, loaded once per process for all measures that look with it.

    Args:
        place: from ``find_model``.
        auto: class of transformers that knows the architecture.

    Raises:
        WeightsError: damaged, of another kind, or without a Pillow back end.
    """
    return _load(place.source, place.revision, place.device, auto, place.metric)


def load_tokenizer(place: Place) -> Any:
    """The tokenizer beside a model.

    Raises:
        WeightsError: missing or damaged.
    """
    return _load_tokenizer(place.source, place.revision, place.metric)


@functools.lru_cache(maxsize=8)
def _load_tokenizer(source: str, revision: str | None, metric: str) -> Any:
    import transformers

    try:
        with _quiet():
            return transformers.AutoTokenizer.from_pretrained(source, **({"revision": revision} if revision else {}))
    except Exception as error:
        _raise_reading_fault(metric, source, error)


def variant_name(metric: str, weights: str, usual: str | None, *more: str, label: str | None = None) -> str:
    """``dino_i`` for the usual weights, ``dino_i[dinov2-large]`` for others: variants never share a column."""
    own = label or Path(weights).name
    parts = [] if usual is not None and own == usual.rpartition("/")[2] else [own]
    parts += [one for one in more if one]
    return f"{metric}[{', '.join(parts)}]" if parts else metric


def pooled(output: Any) -> Tensor:
    """(b, d) of what ``get_image_features`` and ``get_text_features`` give."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _plain(value: Any) -> Any:
    """A processor's setting as plain data."""
    return json.loads(json.dumps(value, default=lambda one: dict(one) if isinstance(one, Mapping) else str(one)))


def _raise_reading_fault(metric: str, source: str, error: Exception) -> NoReturn:
    """Missing, damaged or foreign files become an error of ours; a mistake in the code stays what it is."""
    if not isinstance(error, (*_FAULTS, ImportError)) and type(error).__module__.split(".")[0] not in _LIBRARIES:
        raise error
    raise _fault(metric, source, error) from error


def _fault(metric: str, weights: str, error: Exception) -> WeightsError:
    kind = type(error).__name__
    reason = (str(error).strip().splitlines() or [kind])[0]
    if os.path.isdir(weights):
        return WeightsError(f"{metric}: {weights} cannot be read ({reason}); copy or download it again")
    page = f"https://huggingface.co/{weights}"
    if "Gated" in kind:
        return WeightsError(f"{metric}: {weights} is gated; accept its licence at {page}, then run `hf auth login`")
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"):
        return WeightsError(f"{metric}: the hub has no {weights} that you may read ({kind}); check name and revision")
    return WeightsError(
        f"{metric}: {weights} is not on this machine and could not be downloaded ({kind}: {reason}); go online, name a "
        "local copy with the option weights of its block under metrics, or leave the measure out (metrics.<name>=null)"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps loading bars and the library's notes out of the user's terminal."""
    from transformers.utils import logging as library

    disabled, bar = logging.root.manager.disable, library.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    library.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(disabled)
        if bar:
            library.enable_progress_bar()
