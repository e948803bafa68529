"""Where a checkpoint in diffusers' folder format is, and why it cannot be read; knows no model family."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sigma_framework import Problem, WeightsError

FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError)
"""What the libraries raise for missing, damaged or foreign files."""
LIBRARIES = ("huggingface_hub", "safetensors", "safetensors_rust", "httpx", "httpx2", "requests")
"""Libraries that have exceptions of their own for the same."""
INDEX = "model_index.json"
"""The small file that names a folder's pipeline and its parts."""


def find_checkpoint(
    weights: str,
    revision: str | None,
    parts: Sequence[str],
    pipelines: Sequence[str],
    choices: str,
    shipped: Path | None = None,
) -> tuple[str, str, Mapping[str, Any]]:
    """(folder or hub id, ``folder`` or ``hub``, the index), after the cheap checks.

    The index of a hub id is fetched first, so that gates and networks are reported before gigabytes move.

    Args:
        weights: what the recipe says.
        revision: of a hub id.
        parts: folders that must be there.
        pipelines: classes that the index may name; messages name the first.
        choices: what may be written besides a folder, for messages.
        shipped: the folder that ``weights`` is the name of.

    Raises:
        WeightsError: no such folder, parts missing, another kind of model, gated, unknown or offline.
    """
    folder = Path(weights).expanduser() if shipped is None else shipped
    if shipped is not None or folder.is_dir():
        index = _read_index(folder / INDEX, weights)
        _check_index(weights, index, pipelines, [name for name in parts if not (folder / name).is_dir()])
        return str(folder), "folder", index
    names_folder = folder.is_absolute() or weights.startswith((".", "~")) or weights.count("/") != 1
    if names_folder or os.sep in weights.replace("/", ""):
        raise WeightsError(
            f"backbone.weights: {weights} is not a folder here; expected a folder that diffusers wrote, or {choices}"
        )
    from huggingface_hub import hf_hub_download

    try:
        with _quiet_hub():
            path = hf_hub_download(weights, INDEX, revision=revision)
    except Exception as error:
        raise reading_fault(weights, "hub", error) from error
    index = _read_index(Path(path), weights)
    _check_index(weights, index, pipelines, [name for name in parts if name not in index])
    return weights, "hub", index


def is_reading_fault(error: Exception) -> bool:
    """Whether the libraries complain of files, as opposed to a mistake in the code."""
    return isinstance(error, FAULTS) or type(error).__module__.split(".")[0] in LIBRARIES


def reading_fault(
    weights: str, where: str, error: Exception, *, key: str = "backbone.weights", part: str | None = None
) -> WeightsError:
    """The error that names the model and the way out.

    Args:
        weights: what the recipe says.
        where: ``folder`` or ``hub``.
        error: the libraries' own.
        key: of the recipe.
        part: of the checkpoint, where it is known.
    """
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
    if where == "folder":
        name = weights if part is None else f"{weights}/{part}"
        return WeightsError(f"{key}: {name} cannot be read ({reason}); copy or download it again")
    kind = type(error).__name__
    local = f"or name a local copy with {key}=FOLDER"
    page = f"https://huggingface.co/{weights}"
    if "Gated" in kind:
        return WeightsError(
            f"{key}: {weights} is gated; accept its licence at {page}, then run `hf auth login` or set "
            f"HF_TOKEN (a fine-grained token must allow gated repositories), {local}"
        )
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"):
        return WeightsError(
            f"{key}: the hub has no {weights} that you may read ({kind}); check the name and the revision, "
            f"for a private or gated one accept its licence at {page} and run `hf auth login` or set HF_TOKEN, {local}"
        )
    return WeightsError(
        f"{key}: {weights} is not on this machine and could not be downloaded ({kind}: {reason}); go "
        f"online (a gated one also needs `hf auth login` or HF_TOKEN, see {page}), {local}"
    )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps loading bars of small files and notes about torchvision and unused keys out of the user's terminal."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # the errors that they log are raised, too, and told in our words
    bars = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in bars:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="huggingface_hub")  # of arguments that the other libraries give
            yield
    finally:
        logging.disable(disabled)
        for library in bars:
            library.enable_progress_bar()


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keeps the lines that tell of each retry out of the user's terminal: what they say is raised in the end, too."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)


def _read_index(path: Path, weights: str) -> Mapping[str, Any]:
    if not path.is_file():
        raise WeightsError(f"backbone.weights: {weights} has no {INDEX}; expected a diffusers folder")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"backbone.weights: {weights}/{INDEX} is damaged: {error}") from error
    if not isinstance(index, dict):
        raise WeightsError(f"backbone.weights: {weights}/{INDEX} is damaged: expected a map of parts")
    return index


def _check_index(weights: str, index: Mapping[str, Any], pipelines: Sequence[str], missing: Sequence[str]) -> None:
    remedy = "copy or download it again"
    problems = [Problem(name, "not there, expected this part of the checkpoint", remedy) for name in missing]
    found = index.get("_class_name")
    if found not in pipelines:
        problems.append(Problem(INDEX, f"found {found}, expected {pipelines[0]}", "name another base in backbone.type"))
    if problems:
        raise WeightsError(f"backbone.weights: {weights} cannot be used", problems)
