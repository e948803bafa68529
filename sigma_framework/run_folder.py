"""The folder of a run: its name, its record of what ran, free numbers for outputs, and the way to start anew."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sigma_framework.errors import RunError

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
    (folder / "resolved.yaml").write_text(as_yaml(recipe), encoding="utf-8")
    (folder / "versions.json").write_text(json.dumps(dict(used), indent=2) + "\n", encoding="utf-8")


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


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """A resolved recipe as YAML text, keys in their order."""
    return str(yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))


def next_number(folder: Path) -> int:
    """The next free output number: one more than the largest in use, whatever was deleted in between."""
    if not folder.is_dir():
        return 0
    used = [int(match[1]) for path in folder.iterdir() if (match := _NUMBERED.fullmatch(path.name))]
    return max(used, default=-1) + 1


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
