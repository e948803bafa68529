"""Who may import whom: the contracts of pyproject.toml hold, and a wrong import breaks one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sigma_framework.testing.plugin import HEAVY_PACKAGES

REPOSITORY = Path(__file__).parents[1]
PLUGIN_ROOTS = sorted(path for path in (REPOSITORY / "plugins").iterdir() if path.is_dir())


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """lint-imports on the packages of ``tree``, wherever the installed ones are."""
    roots = [tree, *(tree / "plugins" / root.name for root in PLUGIN_ROOTS)]
    script = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources that a test may spoil."""
    for name in ("sigma_framework", "plugins"):
        ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignore)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("sigma_framework/plugin_host.py", "import sigma_controls", "the core never imports a plugin package"),
        ("sigma_framework/framework.py", "def f():\n    import sigma_metrics.psnr", "the core never imports a plugin"),
        ("sigma_framework/scene/files.py", "import sigma_framework.recipe.load", "layers inside the core"),
        ("plugins/controls/sigma_controls/box2d.py", "import sigma_framework.plugin_host", "only the top level"),
        ("plugins/samplers/sigma_samplers/euler.py", "import sigma_metrics", "do not import one another"),
        ("sigma_framework/conditioning/prompts.py", "import torch", "no torch where recipes are read"),
        ("plugins/metrics/sigma_metrics/psnr.py", "import torchvision", "nobody imports torchvision"),
    ],
)
def test_a_wrong_import_breaks_a_contract(tree: Path, file: str, line: str, contract: str) -> None:
    path = tree / file
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    done = lint(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [shown for shown in done.stdout.splitlines() if shown.endswith("BROKEN")]
    assert any(contract in shown for shown in broken), done.stdout


def test_a_core_module_without_a_place_breaks_the_layers(tree: Path) -> None:
    (tree / "sigma_framework" / "homeless.py").write_text('"""Nobody said where this belongs."""\n')
    done = lint(tree)
    assert done.returncode == 1
    assert "homeless" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--plugins"], ["--help"], ["recipes/curriculum.yaml", "--check"], ["recipes/curriculum.yaml", "--explain"]],
)
def test_looking_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom sigma_framework.cli import run_main\n"
        "try:\n    run_main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        f"heavy = [name for name in {HEAVY_PACKAGES!r} if name in sys.modules]\n"
        "sys.exit(f'{code=} {heavy=}' if code or heavy else 0)\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
