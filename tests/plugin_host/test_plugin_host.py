"""Discovery with real distributions on disk: what is good works, what is broken is named and harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sigma_framework import ControlSpec, MetricSpec, PluginError, hookimpl
from sigma_framework.plugin_host import PluginHost

FAKES = Path(__file__).parent / "fake_dists"
BROKEN = {
    "import_error": ("acme-import-error", "0.3", "acme_package_that_is_not_there"),
    "system_exit": ("acme-system-exit", "0.1", "tried to exit (SystemExit: 3)"),
    "misspelt_hook": ("acme-misspelt", "0.1", "did you mean 'sigma_register_controls'?"),
    "wrong_return": ("acme-wrong-return", "0.1", "gave a MetricSpec, expected ControlSpec"),
    "newer_api": ("acme-newer", "9.0", "plugin API 99, expected 1; upgrade sigma-framework"),
    "hook_raises": ("acme-raises", "0.1", "RuntimeError: the network is down"),
}

Install = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class EmptyConfig:
    """No options."""


class OneMetric:
    """A plugin object with one metric."""

    def __init__(self, name: str, factory: object, extra: str | None = None) -> None:
        self.spec = MetricSpec(name=name, config=EmptyConfig, factory=factory, summary="a measure", extra=extra)  # type: ignore[arg-type]

    @hookimpl
    def sigma_register_metrics(self) -> list[MetricSpec]:
        return [self.spec]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts fake distributions onto the path, as an installation would."""

    def put(*cases: str) -> None:
        for case in cases:
            monkeypatch.syspath_prepend(str(FAKES / case))

    return put


def test_good_plugin_is_found_with_its_origin(install: Install) -> None:
    install("good")
    component = PluginHost.discover().resolve("metric", "acme_sharpness")
    assert str(component.provider) == "acme-good 1.2 (acme-good = acme_good)"
    assert component.qualified == "acme-good:acme_sharpness"


def test_what_a_plugin_prints_at_import_stays_off_standard_output(
    install: Install, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good")
    monkeypatch.delitem(sys.modules, "acme_good", raising=False)
    PluginHost.discover()
    captured = capfd.readouterr()
    assert "hello" in captured.err and "hello" not in captured.out


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_named_and_the_others_work(install: Install, case: str) -> None:
    install("good", case)
    host = PluginHost.discover()
    distribution, version, reason = BROKEN[case]
    broken = next(b for b in host.broken if b.provider.distribution == distribution)
    assert broken.provider.version == version
    assert reason in broken.reason
    assert host.resolve("metric", "acme_sharpness")
    assert not [c for c in host.components() if c.provider.distribution == distribution], "half a plugin was kept"


@pytest.mark.parametrize("case", BROKEN)
def test_strict_mode_raises(install: Install, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(case)
    monkeypatch.setenv("SIGMA_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=BROKEN[case][0]):
        PluginHost.discover()


def test_all_broken_at_once(install: Install) -> None:
    install("good", *BROKEN)
    host = PluginHost.discover()
    assert {values[0] for values in BROKEN.values()} <= {broken.provider.distribution for broken in host.broken}
    assert host.resolve("metric", "acme_sharpness")


@pytest.mark.parametrize("order", [("duplicate_one", "duplicate_two"), ("duplicate_two", "duplicate_one")])
def test_two_providers_of_a_name(install: Install, order: tuple[str, str]) -> None:
    install(*order)
    host = PluginHost.discover(strict=False)
    with pytest.raises(PluginError) as caught:
        host.resolve("metric", "acme_twice")
    text = str(caught.value)
    assert "acme-duplicate-one 1.0 (acme-dup = acme_duplicate_one)" in text
    assert "acme-duplicate-two 1.0 (acme-dup = acme_duplicate_two)" in text
    assert "'acme-duplicate-one:acme_twice' or 'acme-duplicate-two:acme_twice'" in text
    assert "plugins.disable" in text
    assert host.make(host.resolve("metric", "Acme.Duplicate_Two:acme_twice"), EmptyConfig()) == "two"
    assert "acme_twice" not in host.specs("metric")
    with pytest.raises(PluginError, match="provided by 2 plugins"):
        PluginHost.discover(strict=True)


@pytest.mark.parametrize("name", ["acme-duplicate-one", "Acme_Duplicate.ONE"])
def test_disabled_by_distribution(install: Install, name: str) -> None:
    install("duplicate_one", "duplicate_two")
    host = PluginHost.discover(disable=[name])
    assert host.resolve("metric", "acme_twice").provider.distribution == "acme-duplicate-two"
    assert [provider.distribution for provider in host.disabled] == ["acme-duplicate-one"]


def test_disabled_by_entry_point_is_not_imported(install: Install) -> None:
    install("system_exit")
    host = PluginHost.discover(disable=["acme-exit"])
    assert "acme-system-exit" not in {broken.provider.distribution for broken in host.broken}


def test_unknown_name_says_what_there_is(install: Install) -> None:
    install("good", "import_error")
    host = PluginHost.discover()
    with pytest.raises(PluginError) as caught:
        host.resolve("metric", "acme_sharpnes")
    text = str(caught.value)
    assert "did you mean 'acme_sharpness'?" in text
    assert "expected one of:" in text
    assert "acme-import-error 0.3" in text, "a broken plugin may hold it"
    with pytest.raises(PluginError, match="'acme_sharpness' is a metric"):
        host.resolve("control", "acme_sharpness")


def test_right_name_of_the_wrong_distribution(install: Install) -> None:
    install("good")
    with pytest.raises(PluginError, match="did you mean acme-good:acme_sharpness"):
        PluginHost.discover().resolve("metric", "acme-bad:acme_sharpness")


def test_empty_host_discovers_nothing() -> None:
    host = PluginHost()
    assert not host.components() and not host.broken
    with pytest.raises(PluginError, match="expected one of: none"):
        host.resolve("control", "box2d")


def test_register_refuses_what_is_broken() -> None:
    class Wrong:
        @hookimpl
        def sigma_register_metrics(self) -> list[str]:
            return ["not a spec"]

    host = PluginHost()
    with pytest.raises(PluginError, match="gave a str, expected MetricSpec"):
        host.register(Wrong(), name="wrong", distribution="acme", version="1")
    assert not host.components() and not host.broken


def test_register_refuses_an_object_without_hooks() -> None:
    with pytest.raises(PluginError, match="found no hook"):
        PluginHost().register(object(), name="nothing")


def test_one_distribution_cannot_give_a_name_twice() -> None:
    host = PluginHost()
    host.register(OneMetric("blur", dict), name="first", distribution="acme")
    with pytest.raises(PluginError, match="registers metric 'blur' a second time"):
        host.register(OneMetric("blur", dict), name="second", distribution="acme")
    assert host.resolve("metric", "blur").provider.entry_point == "first"


def test_missing_package_names_the_extra(install: Install) -> None:
    install("good")
    host = PluginHost.discover()
    with pytest.raises(PluginError, match=r"pip install 'acme-good\[heun\]'"):
        host.make(host.resolve("sampler", "acme_heun"), EmptyConfig())


def test_missing_package_without_an_extra_names_plugin_and_cause() -> None:
    host = PluginHost()
    host.register(OneMetric("blur", "acme_nowhere.blur:Blur"), name="blur", distribution="acme", version="2.0")
    with pytest.raises(PluginError) as caught:
        host.make(host.resolve("metric", "blur"), EmptyConfig())
    text = str(caught.value)
    assert "acme 2.0" in text and "acme_nowhere" in text and "pip install" not in text


def test_module_of_the_plugin_itself_is_not_an_extra() -> None:
    host = PluginHost()
    host.register(OneMetric("blur", "json.blurring:Blur", extra="blur"), name="blur", distribution="acme")
    with pytest.raises(PluginError) as caught:
        host.make(host.resolve("metric", "blur"), EmptyConfig())
    assert "pip install" not in str(caught.value)


def test_factory_that_is_not_there() -> None:
    host = PluginHost()
    host.register(OneMetric("blur", "json:NoSuchThing"), name="blur", distribution="acme")
    with pytest.raises(PluginError, match="NoSuchThing"):
        host.make(host.resolve("metric", "blur"), EmptyConfig())


def test_defect_of_a_factory_is_not_hidden() -> None:
    def fail(config: object) -> object:
        raise RuntimeError("boom")

    host = PluginHost()
    host.register(OneMetric("blur", fail), name="blur", distribution="acme")
    with pytest.raises(RuntimeError, match="boom") as caught:
        host.make(host.resolve("metric", "blur"), EmptyConfig())
    assert "metric 'blur' of acme" in caught.value.__notes__[0]


def test_components_come_by_kind_and_name() -> None:
    class Several:
        @hookimpl
        def sigma_register_metrics(self) -> list[MetricSpec]:
            return [MetricSpec(name=name, config=EmptyConfig, factory=dict, summary="s") for name in ("b", "a")]

        @hookimpl
        def sigma_register_controls(self) -> list[ControlSpec]:
            return [ControlSpec(name="z", config=EmptyConfig, geometry=EmptyConfig, factory=dict, summary="s")]

    host = PluginHost()
    host.register(Several(), name="several")
    assert [(c.kind, c.name) for c in host.components()] == [("control", "z"), ("metric", "a"), ("metric", "b")]


def test_interrupt_is_not_swallowed() -> None:
    class Interrupted:
        @hookimpl
        def sigma_register_metrics(self) -> list[MetricSpec]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PluginHost().register(Interrupted(), name="interrupted")


def test_listing_imports_nothing_heavy() -> None:
    program = (
        "import sys, json; from sigma_framework.plugin_host import PluginHost; host = PluginHost.discover();"
        "[c.spec.summary for c in host.components()];"
        "heavy = {'torch', 'diffusers', 'transformers', 'lightning', 'peft', 'scipy'} & set(sys.modules);"
        "print(json.dumps([sorted(heavy), len(host.components())]))"
    )
    path = os.pathsep.join([*sys.path, str(FAKES / "good")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy, count = json.loads(done.stdout)
    assert heavy == []
    assert count >= 2
