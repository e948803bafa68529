"""``docs/cli.md`` against the programs: every flag is there, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sigma_framework import cli, data_cli, study_cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
PROGRAMS = {"sigma-run": cli.run_app, "sigma-export": cli.export_app}
COMMANDS = {name: get_command(app) for name, app in PROGRAMS.items()}
COMMANDS |= {f"sigma-data {name}": one for name, one in get_command(data_cli.data_app).commands.items()}  # type: ignore[attr-defined]  # a group
COMMANDS |= {f"sigma-study {name}": one for name, one in get_command(study_cli.study_app).commands.items()}  # type: ignore[attr-defined]  # a group


def section(program: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## `{program}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section about {program}"
    return found[0]


@pytest.mark.parametrize("program", COMMANDS)
def test_flags_and_page_agree(program: str) -> None:
    command = COMMANDS[program]
    real = {option for parameter in command.params for option in parameter.opts if option.startswith("--")} | {"--help"}
    documented = set(re.findall(r"^\| `(--[\w-]+)", section(program), re.MULTILINE))
    assert documented == real


def test_exit_codes_are_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for code in ("| 0 |", "| 1 |", "| 2 |", "| 130, 143 |", "| 138, 129 |"):
        assert code in text
