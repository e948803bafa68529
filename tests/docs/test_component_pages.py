"""Every first-party component has a page that names every option it takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sigma_framework.plugin_host import PluginHost
from sigma_framework.provenance import Component

PAGES = Path(__file__).parents[2] / "docs" / "components"
COMPONENTS = [one for one in PluginHost.discover().components() if one.provider.distribution == "sigma-framework"]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda one: f"{one.kind}_{one.name}")
def test_it_has_a_page_with_every_option(component: Component) -> None:
    page = PAGES / f"{component.kind}_{component.name}.md"
    assert page.is_file(), f"write {page.name}"
    text = page.read_text(encoding="utf-8")
    options = [field.name for field in dataclasses.fields(component.spec.config)]
    options += [field.name for field in dataclasses.fields(getattr(component.spec, "geometry", component.spec.config))]
    assert [name for name in options if name not in text] == []


def test_no_page_describes_what_is_gone() -> None:
    known = {f"{one.kind}_{one.name}.md" for one in COMPONENTS}
    assert {path.name for path in PAGES.iterdir()} <= known
