"""The tutorial shows the files of the example, to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sigma_framework.hookspecs import HOOK_OF_KIND
from sigma_framework.specs import KINDS

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = (REPOSITORY / "docs" / "writing-a-plugin.md").read_text()
SHOWN = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", ["acme_ellipse.py", "pyproject.toml", "test_acme_ellipse.py", "scene.yaml"])
def test_code_blocks_are_the_files(name: str) -> None:
    assert SHOWN[name] == (REPOSITORY / "examples" / "acme_ellipse" / name).read_text()


def test_the_example_is_small() -> None:
    lines = [line for line in SHOWN["acme_ellipse.py"].splitlines() if line.strip()]
    assert len(lines) <= 45


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_in_the_table(kind: str) -> None:
    import sigma_framework.testing

    (row,) = re.findall(rf"^\| {kind} \| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", TUTORIAL, re.MULTILINE)
    hook, protocol, conformance = row
    assert hook == HOOK_OF_KIND[kind]
    assert getattr(sigma_framework.testing, conformance).protocol.__name__ == protocol
