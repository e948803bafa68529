"""The folder of a run: its name, its record of what ran, free numbers for outputs, and the way to start anew."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sigma_framework.errors import RunError
from sigma_framework.plugin_host import PluginHost

_REPORTED = (
    "sigma-framework",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "lightning",
    "numpy",
    "pillow",
    "prodigyopt",
)
_NUMBERED = re.compile(r"(\d{4,})\.png")


def versions(providers: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Versions of Python, of the libraries that decide numbers, and of the plugin distributions given."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform} {platform.machine()}"}
    for name in _REPORTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found.update(dict(providers))
    return found


def versions_of(host: PluginHost) -> dict[str, str]:
    """``versions`` with every distribution that provides a component."""
    return versions(sorted({(one.provider.distribution, one.provider.version) for one in host.components()}))


def set_aside(folder: Path) -> Path | None:
    """Renames a run folder to ``<folder>.1``, ``.2``, ...; returns the new name, None when there was none."""
    if not folder.exists():
        return None
    number = 1
    while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(kept)
    return kept


def write_record(folder: Path, recipe: Mapping[str, Any], used: Mapping[str, str]) -> None:
    """Writes ``resolved.yaml`` (the resolved recipe, which runs again as it is) and ``versions.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace_text(folder / "resolved.yaml", as_yaml(recipe))  # first: without it the folder is nobody's run
    _replace_text(folder / "versions.json", json.dumps(dict(used), indent=2) + "\n")


def _replace_text(path: Path, text: str) -> None:
    """The old text or the new one, never a part: a run is known by these files."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """The recipe of the run that the folder holds; None when there is none.

    Raises:
        RunError: ``resolved.yaml`` is damaged.
    """
    path = folder / "resolved.yaml"
    if not path.exists():
        return None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: damaged, cannot tell whose run this is; use --fresh or another run.dir") from error
    return found if isinstance(found, dict) else None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a second training run out of a folder while this one is in it; the lock ends with the process.

    Raises:
        RunError: another process trains there; names it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with (folder / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: data workers would inherit it and outlive us
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise RunError(f"{folder} is in use by process {holder}; wait for it, or choose another run.dir") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def refuse_other_recipe(
    folder: Path,
    wanted: Mapping[str, Any],
    allow: Sequence[str] = (),
    read: Callable[[Path], Mapping[str, Any] | None] = read_recipe,
) -> list[str]:
    """Makes sure that a folder is free, or holds a run of the same recipe.

    Args:
        folder: the run folder.
        wanted: the resolved recipe that wants to run there.
        allow: keys that may differ; a key stands for all below it.
        read: gives the recipe of the run that the folder holds.

    Returns:
        The keys that do differ, all of them allowed.

    Raises:
        RunError: it holds something else; names the differing keys.
    """
    held = read(folder)
    if held is None:
        if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):  # a lock is no run
            raise RunError(f"{folder} holds files but no run; choose another run.dir, or --fresh to set it aside")
        return []
    found = differing_keys(held, wanted)
    differing = [key for key in found if not is_accepted(key, allow)]
    if differing:
        flags = " ".join(f"--allow {key}" for key in differing)
        raise RunError(
            f"{folder} holds a run whose recipe differs in {', '.join(differing)}; "
            f"accept with {flags}, start anew with --fresh, or choose another run.dir"
        )
    return found


def is_accepted(key: str, allow: Sequence[str]) -> bool:
    """Whether a key, or one above it, is among those that may differ."""
    return any(key == accepted or key.startswith(f"{accepted}.") for accepted in allow)


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """A resolved recipe as YAML text, keys in their order."""
    return str(yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))


def next_number(folder: Path) -> int:
    """The next free output number: one more than the largest in use, whatever was deleted in between."""
    if not folder.is_dir():
        return 0
    used = [int(match[1]) for path in folder.iterdir() if (match := _NUMBERED.fullmatch(path.name))]
    return max(used, default=-1) + 1


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """What a resolved recipe says about each image of an evaluation, as a short text.

    Left out are measures, places, and how many scenes are made.
    """
    decides = {
        key: value for key, value in recipe.items() if key not in ("metrics", "run", "plugins", "train", "build")
    }
    free = ("system", "paper_table", "beside", "note", "images", "batch_size", "validation_loss", "scenes", "also")
    decides["evaluate"] = {key: value for key, value in recipe.get("evaluate", {}).items() if key not in free}
    decides["seed"] = recipe.get("run", {}).get("seed")
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:16]


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted paths at which two resolved recipes differ."""
    different: list[str] = []
    for key in sorted(set(old) | set(new)):
        path = f"{prefix}.{key}" if prefix else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            different.extend(differing_keys(before, after, path))
        elif before != after:
            different.append(path)
    return different
