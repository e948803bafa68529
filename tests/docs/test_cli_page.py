"""``docs/cli.md`` against the programs: every flag is there, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from sigma_framework import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
PROGRAMS = {"sigma-run": cli.run_app, "sigma-export": cli.export_app}


def section(program: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## `{program}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section about {program}"
    return found[0]


@pytest.mark.parametrize("program", PROGRAMS)
def test_flags_and_page_agree(program: str) -> None:
    app: typer.Typer = PROGRAMS[program]
    command = get_command(app)
    real = {option for parameter in command.params for option in parameter.opts if option.startswith("--")} | {"--help"}
    documented = set(re.findall(r"^\| `(--[\w-]+)", section(program), re.MULTILINE))
    assert documented == real


def test_exit_codes_are_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for code in ("| 0 |", "| 1 |", "| 2 |", "| 130, 143 |"):
        assert code in text
