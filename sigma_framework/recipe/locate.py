"""Which file a recipe argument means: an existing path first, then the name of a shipped recipe."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from sigma_framework.errors import Problem, RecipeError, nearest_name

DISTRIBUTION = "sigma-framework"
_SHARED = ("share", "sigma_framework", "recipes")
_ENDINGS = ("", ".yaml", ".yml")


def locate(argument: str | Path, folder: Path | None = None) -> Path:
    """The recipe file that ``argument`` names.

    Args:
        argument: a path, with or without ``.yaml``, or a shipped recipe's name.
        folder: what a relative path is relative to; None is the current folder.

    Raises:
        RecipeError: there is no such file, with the nearest shipped name.
    """
    base = folder or Path.cwd()
    text = str(argument)
    places = [(base / f"{text}{ending}") for ending in _ENDINGS] if text else []
    shipped = shipped_recipes()
    places += [shipped[name] for name in (text, text.removesuffix(".yaml")) if name in shipped]
    for place in places:
        if place.is_file():
            return place.absolute()
    what = (
        "found a folder, expected a file"
        if (base / text).is_dir()
        else "found neither such a file nor such a shipped recipe"
    )
    known = f"shipped recipes: {', '.join(name for name in shipped if not name.startswith('_')) or 'none'}"
    raise RecipeError(text or "recipe", [Problem("", what, nearest_name(text.removesuffix(".yaml"), shipped) or known)])


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package, by name without ``.yaml`` (``_base/pocket`` for one in a folder)."""
    checkout = _checkout_folder()
    if checkout is not None:
        found = {path.relative_to(checkout).with_suffix("").as_posix(): path for path in checkout.rglob("*.yaml")}
    else:
        found = _installed()
    return dict(sorted(found.items()))


def _checkout_folder() -> Path | None:
    """``recipes/`` beside ``pyproject.toml``: an editable install's copy goes stale, the checkout does not."""
    root = Path(__file__).resolve().parents[2]
    folder = root / "recipes"
    return folder if folder.is_dir() and (root / "pyproject.toml").is_file() else None


def _installed() -> dict[str, Path]:
    try:
        listed_files = files(DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    found: dict[str, Path] = {}
    for file in listed_files:
        for start in range(len(file.parts) - len(_SHARED)):
            if file.parts[start : start + len(_SHARED)] == _SHARED and file.suffix == ".yaml":
                name = Path(*file.parts[start + len(_SHARED) :]).with_suffix("").as_posix()
                found[name] = Path(str(file.locate())).resolve()
    return found
