"""The pages about hooks: each hook is there with its real signature, and each example works."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from sigma_framework import hookspecs
from sigma_framework.hookspecs import HOOK_OF_KIND
from sigma_framework.plugin_host import PluginHost
from sigma_framework.specs import KINDS, SPEC_OF_KIND, Kind

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """An empty module that dataclasses can find."""
    made = ModuleType("documented_plugin")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def signature(hook: str) -> str:
    return f"{hook}{inspect.signature(getattr(hookspecs, hook))}"


def examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.+?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_every_hookspec_has_a_kind() -> None:
    written = {name for name, value in vars(hookspecs).items() if name.startswith("sigma_") and callable(value)}
    assert written == set(HOOK_OF_KIND.values())


@pytest.mark.parametrize("kind", KINDS)
def test_overview_has_the_real_signature(kind: Kind) -> None:
    text = (DOCS / "hooks.md").read_text(encoding="utf-8")
    hook = HOOK_OF_KIND[kind]
    assert f"| [`{hook}`](hooks/{hook}.md) | `{signature(hook)}` |" in text


@pytest.mark.parametrize("kind", KINDS)
def test_page_has_signature_and_every_field(kind: Kind) -> None:
    text = (DOCS / "hooks" / f"{HOOK_OF_KIND[kind]}.md").read_text(encoding="utf-8")
    assert signature(HOOK_OF_KIND[kind]) in text
    for field in fields(SPEC_OF_KIND[kind]):
        assert f"* `{field.name}`: " in text


@pytest.mark.parametrize("kind", KINDS)
def test_example_registers_a_component_of_its_kind(kind: Kind, module: ModuleType) -> None:
    (code,) = examples(DOCS / "hooks" / f"{HOOK_OF_KIND[kind]}.md")
    exec(compile(code, f"<{kind}>", "exec"), module.__dict__)
    host = PluginHost()
    host.register(module, distribution="acme", version="1.0")
    (component,) = host.components()
    assert component.kind == kind
    if not isinstance(component.spec.factory, str):
        assert host.make(component, component.spec.config())


def test_control_example_draws_an_ellipse(module: ModuleType) -> None:
    from sigma_framework import Camera, Canvas

    (code,) = examples(DOCS / "hooks" / "sigma_register_controls.md")
    exec(compile(code, "<control>", "exec"), module.__dict__)
    canvas = Canvas(width=40, height=30, camera=Camera.from_fov_y(50, 40, 30))
    names = vars(module)
    layer = names["EllipseControl"](names["EllipseConfig"]()).encode(
        names["EllipseGeometry"](xyxy=(5, 5, 35, 25)), canvas
    )
    assert layer.region.shape == (30, 40)
    assert abs(layer.region.sum() - 3.14159 * 15 * 10) < 10


def test_overview_example_runs(module: ModuleType) -> None:
    (code,) = examples(DOCS / "hooks.md")
    exec(compile(code, "<overview>", "exec"), module.__dict__)
