"""What the README and the quick start show is what there is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigma_framework import Framework

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md")


def shown(page: str, kind: str) -> Iterator[tuple[str, str]]:
    """(file, block) of every block that says which file it shows."""
    text = (ROOT / page).read_text(encoding="utf-8")
    yield from re.findall(rf"<!-- {kind}: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    """Every sigma-run line of the two pages that runs a recipe on something that is in the repository."""
    found: list[str] = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            lines = [line.split("#")[0].strip() for line in block.splitlines()]
            found += [line for line in lines if line.startswith("sigma-run recipes/")]
    return [line for line in found if "runs/" not in line and "my.yaml" not in line and "..." not in line]


@pytest.mark.parametrize("kind", ["scene", "code"])
def test_shown_files_are_the_files(kind: str) -> None:
    blocks = list(shown("README.md", kind))
    assert blocks
    for file, block in blocks:
        assert block == (ROOT / file).read_text(encoding="utf-8"), f"README shows another {file}"


@pytest.mark.parametrize("line", commands())
def test_every_command_is_right(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, recipe, *rest = shlex.split(line)
    Framework.load(recipe, [word for word in rest if not word.startswith("--")]).check()


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 6


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- test: python -->\n```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    result = names["result"]
    assert result.region.shape == (128, 128)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [*PAGES, "docs/scenes.md", "docs/training.md", "CONTRIBUTING.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
