"""Reading published models: quietly, onto a device, and with complaints that say what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sigma_framework import RecipeError, WeightsError

if TYPE_CHECKING:
    import torch

_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError)
"""What the libraries raise for missing, damaged or foreign files."""
_LIBRARIES = ("huggingface_hub", "safetensors", "safetensors_rust", "httpx", "httpx2", "requests")
"""Libraries that have exceptions of their own for the same."""
Read = TypeVar("Read")


def read_weights(option: str, weights: str, revision: str | None, read: Callable[[str, dict[str, Any]], Read]) -> Read:
    """``read(source, options)``, with the libraries quiet.

    Args:
        option: what messages call it, e.g. ``segmenter: finder.detector``.
        weights: a folder, or a hub id.
        revision: of a hub id.
        read: calls ``from_pretrained(source, **options)`` of what is wanted.

    Raises:
        WeightsError: not there, damaged, of another kind, gated, or offline.
    """
    folder = Path(weights).expanduser()
    here = folder.is_dir()
    if not here and (folder.is_absolute() or weights.startswith((".", "~")) or weights.count("/") != 1):
        raise WeightsError(
            f"{option}: {weights} is not a folder here; expected a folder, or a hub id such as owner/name"
        )
    options = {} if here or revision is None else {"revision": revision}
    try:
        with quiet_libraries():
            return read(str(folder) if here else weights, options)
    except WeightsError:
        raise
    except Exception as error:
        if not isinstance(error, _FAULTS) and type(error).__module__.split(".")[0] not in _LIBRARIES:
            raise
        raise _refused(option, weights, here, error) from error


def _refused(option: str, weights: str, here: bool, error: Exception) -> WeightsError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if here:
        return WeightsError(f"{option}: {weights} cannot be read ({reason}); copy or download it again")
    chain, cause = [type(error).__name__], error.__cause__
    while cause is not None and len(chain) < 8:
        chain.append(type(cause).__name__)
        cause = cause.__cause__
    page = f"https://huggingface.co/{weights}"
    if any("Gated" in name for name in chain):
        remedy = f"accept its licence at {page}, then run `hf auth login` or set HF_TOKEN"
        return WeightsError(f"{option}: {weights} is gated; {remedy}, or name a local copy")
    if any(name in ("RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError") for name in chain):
        return WeightsError(f"{option}: the hub has no {weights} that you may read; check the name and the revision")
    return WeightsError(
        f"{option}: {weights} is not on this machine and could not be downloaded ({reason}); go online, copy it to the "
        "hub's cache, or name a folder with a local copy"
    )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps loading bars and notes about torchvision out of the user's terminal."""
    from transformers.utils import logging as transformers_logging

    disabled, bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(disabled)
        if bars:
            transformers_logging.enable_progress_bar()


def place_of(option: str, device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """The device and the number type that options name.

    Raises:
        RecipeError: there is no such device.
    """
    import torch

    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"{option}: device: found {device}, which is not here; write auto or cpu") from error
    usual = torch.float32 if found.type == "cpu" else torch.bfloat16
    return found, {"auto": usual, "float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def told_name(weights: str, model: Any, revision: str | None) -> str:
    """A model as provenance names it: the hub id and the commit that was read, or the folder's name.

    Args:
        weights: as the recipe names them.
        model: or a pipeline of several, read from there.
        revision: that was asked for; told where the model does not know its commit.
    """
    if Path(weights).expanduser().is_dir():
        return Path(weights).expanduser().resolve().name
    commit = next(filter(None, map(_commit_of, [model, *getattr(model, "components", {}).values()])), revision)
    return f"{weights}@{commit}" if commit else weights


def _commit_of(model: Any) -> str | None:
    """What transformers writes down; diffusers keeps only the place in the hub's cache, which is named for it."""
    config = getattr(model, "config", None)
    if told := getattr(config, "_commit_hash", None):
        return str(told)
    found = re.search(r"snapshots[/\\]([0-9a-f]{40})\b", str(getattr(config, "_name_or_path", "")))
    return found[1] if found else None


def with_models(record: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The record, whose provenance names the models that made something of it."""
    provenance = dict(record.get("provenance", {}))
    return {**record, "provenance": {**provenance, "models": {**provenance.get("models", {}), **names}}}
