"""What is shipped: our packages, the recipes and the weights, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from sigma_framework import __version__

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {
    "sigma_annotators",
    "sigma_backbones",
    "sigma_controls",
    "sigma_datasources",
    "sigma_framework",
    "sigma_metrics",
    "sigma_samplers",
}
STEM = f"sigma_framework-{__version__}"
"""How the wheel's own folders start: the package and pyproject.toml name one version."""
LARGEST_WHEEL = 30 * 2**20
"""Bytes: an embedded model must not make the package heavy."""


def build(folder: Path) -> Path:
    """The wheel of ``folder``, made without a network."""
    out = folder / "made"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this checkout, so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("sigma_framework", "plugins", "recipes"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(REPOSITORY / name, copy)
    return build(copy)


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[PurePosixPath]:
    """Every file in it."""
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]


def test_top_level_names_are_ours(names: list[PurePosixPath]) -> None:
    assert {name.parts[0] for name in names} == {
        *PACKAGES,
        f"{STEM}.data",
        f"{STEM}.dist-info",
    }


def test_every_module_is_inside(names: list[PurePosixPath]) -> None:
    roots = [REPOSITORY, *(REPOSITORY / "plugins").iterdir()]
    here = {
        PurePosixPath(path.relative_to(root).as_posix())
        for root in roots
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
    }
    assert here <= set(names)
    assert PurePosixPath("sigma_framework/py.typed") in names


def test_weights_are_inside_and_light(wheel: Path, names: list[PurePosixPath]) -> None:
    plugins = REPOSITORY / "plugins"
    inside = {name for name in names if name.suffix == ".safetensors"}
    here = {PurePosixPath(*path.relative_to(plugins).parts[1:]) for path in plugins.glob("*/sigma_*/**/*.safetensors")}
    assert inside == here, "weights of the checkout are missing from the wheel; does .gitignore hide them?"
    parts = {name.parts[2] for name in inside if name.parts[:2] == ("sigma_backbones", "pocket")}
    assert {"transformer", "vae", "text_encoder", "text_encoder_2", "adapter"} <= parts
    assert PurePosixPath("sigma_metrics/judge/weights/judge.safetensors") in inside
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_recipes_are_shipped_as_data(names: list[PurePosixPath]) -> None:
    share = PurePosixPath(f"{STEM}.data/data/share/sigma_framework/recipes")
    here = {
        share / path.relative_to(REPOSITORY / "recipes").as_posix() for path in (REPOSITORY / "recipes").rglob("*.yaml")
    }
    assert here
    assert {name for name in names if share in name.parents} == here


def test_the_studys_page_is_inside_with_its_licences(names: list[PurePosixPath]) -> None:
    page = PurePosixPath("sigma_framework/study/page")
    parts = {"index.html", "study.css", "study.js", "jspsych.js", "jspsych-licences.txt"}
    assert {name.name for name in names if name.parent == page} == parts


def test_entry_points_name_modules_that_are_inside(wheel: Path, names: list[PurePosixPath]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{STEM}.dist-info/entry_points.txt").decode()
    targets = [line.split("=")[1].strip().partition(":")[0] for line in text.splitlines() if "=" in line]
    assert len(targets) == 10
    assert {PurePosixPath(target.replace(".", "/") + ".py") for target in targets} <= set(names)


def test_no_dependency_on_torchvision(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{STEM}.dist-info/METADATA").decode()
    assert "Requires-Dist: torch>=" in metadata
    assert "torchvision" not in metadata
    assert "torchvision" not in (REPOSITORY / "constraints.txt").read_text()


def test_constraints_pin_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    missing = {one.split(">")[0].split("<")[0].split("[")[0].lower() for one in wanted} - pinned
    assert not missing
    assert all("==" in line and "+" not in line for line in lines), "pin exact versions, without a build suffix"
