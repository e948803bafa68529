"""The page on data making: its recipes exist, its example recipe is one, its words name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from sigma_framework import Framework
from sigma_framework.plugin_host import PluginHost

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_recipes_that_it_names_exist() -> None:
    named = set(re.findall(r"recipes/\w+\.yaml", PAGE))
    assert len(named) > 4
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_annotator_of_a_build_has_its_row() -> None:
    known = {one.name for one in PluginHost.discover().components() if one.kind == "annotator"}
    assert known - set(re.findall(r"`(\w+)`", PAGE)) <= {"plain_prompts"}, "it completes records, in annotate.yaml"


def test_the_example_is_a_recipe(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(example, encoding="utf-8")
    recipe = Framework.load(path).recipe
    assert set(recipe.datasources) == {"main", "single", "pairs"}
    assert [stage.datasources for stage in recipe.stages.values()] == [
        ("main", "single", "pairs"),
        ("main",),
        ("main",),
    ]


def test_commands_of_it_are_the_command_lines_own() -> None:
    from sigma_framework.data_cli import data_app

    commands = {
        command.name or command.callback.__name__ for command in data_app.registered_commands if command.callback
    }
    assert set(re.findall(r"sigma-data (\w+)", PAGE)) <= commands
