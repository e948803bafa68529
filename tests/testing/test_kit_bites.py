"""The kit fails for components that break their contract, and says which part of it."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sigma_framework import (
    AnnotatorSpec,
    BackboneSpec,
    Canvas,
    ControlLayer,
    ControlSpec,
    DataSourceSpec,
    Example,
    MetricSpec,
    OnStep,
    Result,
    SampleRequest,
    SamplerSpec,
    Scene,
    SubjectAnnotation,
    Tokens,
    hookimpl,
)
from sigma_framework.testing import (
    AnnotatorConformance,
    BackboneConformance,
    ControlConformance,
    DataSourceConformance,
    MetricConformance,
    PluginConformance,
    SamplerConformance,
    TinyBackbone,
    TinyConfig,
    ToySource,
)


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class BoxGeometry:
    """A box, pixels."""

    xyxy: tuple[float, float, float, float]


@dataclass
class Box:
    """A control that keeps its contract; each fault below breaks it in one way."""

    config: NoOptions
    fault: str = ""

    def encode(self, geometry: BoxGeometry, canvas: Canvas) -> ControlLayer:
        x0, y0, x1, y1 = geometry.xyxy
        rows, columns = np.mgrid[: canvas.height, : canvas.width] + 0.5
        region = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
        if self.fault == "uint8 region":
            return ControlLayer(region=region.astype(np.uint8))  # type: ignore[arg-type]
        if self.fault == "turned region":
            return ControlLayer(region=region.T)
        if self.fault == "empty region":
            return ControlLayer(region=np.zeros_like(region))
        if self.fault == "unannounced depth":
            return ControlLayer(region=region, depth=np.ones(region.shape, np.float32))
        if self.fault == "random region":
            return ControlLayer(region=region ^ (np.random.default_rng().random(region.shape) < 0.1))
        return ControlLayer(region=region)

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> Any:
        if self.fault == "global randomness":
            np.random.random()
        if self.fault == "writes":
            subject.mask[0, 0] = True
        if self.fault == "elsewhere":
            return BoxGeometry(xyxy=(0.0, float(canvas.height - 1), 1.0, float(canvas.height)))
        if self.fault == "array in a list":
            return BoxGeometry(xyxy=tuple(np.array(subject.box2d, np.float32)))  # type: ignore[arg-type]
        if self.fault == "mapping":
            return {"xyxy": subject.box2d}
        if self.fault == "closure":
            self.secret = lambda: None
        return BoxGeometry(xyxy=subject.box2d)


def control_case(fault: str) -> ControlConformance:
    class Case(ControlConformance):
        spec = ControlSpec(
            name="box", config=NoOptions, geometry=BoxGeometry, factory=lambda c: Box(c, fault), summary="a box"
        )
        geometries = ({"xyxy": [3, 4, 20, 30]},)

        def make(self) -> Box:
            made = Box(NoOptions(), fault)
            if fault == "closure":
                made.secret = lambda: None  # type: ignore[attr-defined]
            return made

    return Case()


def verdicts(case: Any, tmp_path: Path | None = None) -> dict[str, str]:
    """Failed tests of a conformance class with their messages."""
    failed = {}
    for name in dir(case):
        if not name.startswith("test_"):
            continue
        test = getattr(case, name)
        arguments = [tmp_path] if "tmp_path" in test.__code__.co_varnames[: test.__code__.co_argcount] else []
        try:
            test(*arguments)
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def assert_caught(failed: Mapping[str, str], words: str) -> None:
    assert any(words in message for message in failed.values()), f"expected {words!r} among {failed}"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("uint8 region", "expected bool"),
        ("turned region", "expected (H, W)"),
        ("empty region", "no pixel"),
        ("unannounced depth", "gives_depth is False"),
        ("random region", "another layer"),
        ("global randomness", "global generator"),
        ("writes", "read-only"),
        ("elsewhere", "does not touch the subject"),
        ("array in a list", "expected"),
        ("mapping", "expected the spec's BoxGeometry"),
        ("closure", "pickle"),
    ],
)
def test_control_faults(fault: str, words: str) -> None:
    assert not verdicts(control_case(""))
    assert_caught(verdicts(control_case(fault)), words)


@dataclass(frozen=True)
class FaultySource(ToySource):
    """Toy examples with one fault."""

    fault: str = ""

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index % self.length if self.fault == "no end" else index)
        if self.fault == "float target":
            return replace(example, target=example.target / 255.0)
        if self.fault == "one identity":
            return replace(example, identities=example.identities[:1])
        if self.fault == "same key":
            return replace(example, key="x")
        if self.fault == "overlap":
            whole = np.ones_like(example.subjects[0].mask)
            size = (0.0, 0.0, float(whole.shape[1]), float(whole.shape[0]))
            depth = np.ones(whole.shape, np.float32)
            moved = [replace(s, mask=whole, box2d=size, depth=depth) for s in example.subjects]
            return replace(example, subjects=tuple(moved))
        if self.fault == "fresh noise":
            noise = np.random.default_rng().integers(0, 9, example.target.shape, np.uint8)
            return replace(example, target=example.target // 2 + noise)
        if self.fault == "another size":
            return replace(example, target=example.target[:32])
        return example

    @property
    def subject_counts(self) -> Any:
        counts = super().subject_counts
        return counts + 1 if self.fault == "wrong counts" else counts


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("float target", "expected uint8"),
        ("one identity", "one identity per subject"),
        ("same key", "keys repeat"),
        ("overlap", "two subjects"),
        ("fresh noise", "another order or again"),
        ("another size", "sizes is wrong"),
        ("wrong counts", "subject_counts is wrong"),
        ("no end", "DID NOT RAISE"),
    ],
)
def test_datasource_faults(fault: str, words: str) -> None:
    def case(fault: str) -> DataSourceConformance:
        class Case(DataSourceConformance):
            spec = DataSourceSpec(
                name="toys", config=NoOptions, factory=lambda _: FaultySource(fault=fault), summary="toys"
            )

        return Case()

    assert not verdicts(case(""))
    assert_caught(verdicts(case(fault)), words)


class FaultyBackbone(TinyBackbone):
    """The tiny backbone with one fault."""

    def __init__(self, fault: str = "") -> None:
        super().__init__(TinyConfig())
        self.fault = fault

    def noise(self, size_hw: tuple[int, int], generators: Sequence[torch.Generator]) -> Tokens:
        if self.fault == "one generator":
            return super().noise(size_hw, [generators[0]] * len(generators))
        return super().noise(size_hw, generators)

    def encode_image(self, images: torch.Tensor, role: Any) -> Tokens:
        return super().encode_image(images, "target" if self.fault == "identity ids" else role)

    def velocity(self, x: Tokens, t: Any, text: Any, conditions: Any, guidance: float | None = None) -> torch.Tensor:
        if self.fault == "deaf to conditions":
            return super().velocity(x, t, text, [], guidance)
        velocity = super().velocity(x, t, text, conditions, guidance)
        return velocity - velocity.mean(dim=0) if self.fault == "batch mixes" else velocity

    def timesteps(self, count: int, target_length: int) -> torch.Tensor:
        times = super().timesteps(count, target_length)
        return times + 1e-3 if self.fault == "never zero" else times

    def region_tokens(self, region: torch.Tensor) -> torch.Tensor:
        tokens = super().region_tokens(region)
        return tokens * 0 if self.fault == "no region" else tokens

    def add_adapter(self, name: str, rank: int, alpha: float, targets: Any, seed: int) -> None:
        super().add_adapter(name, rank, alpha, targets, seed if self.fault != "one seed" else 0)
        if self.fault == "adapter acts":
            for parameter in self.trainable_parameters().values():
                parameter.data += 0.1
        if self.fault == "base trains":
            self.network.requires_grad_(True)

    def load_adapter(self, path: Path, name: str, weight: float, trainable: bool = False) -> None:
        super().load_adapter(path, name, 1.0 if self.fault == "weight ignored" else weight, trainable)

    def modules(self) -> Sequence[torch.nn.Module]:
        return [self.network] if self.fault == "hidden adapter" else super().modules()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("one generator", "same seed alone"),
        ("identity ids", "ids collide"),
        ("deaf to conditions", "does not change with conditions"),
        ("batch mixes", "rows of a batch mix"),
        ("never zero", "exactly 0"),
        ("no region", "region_tokens"),
        ("one seed", "two seeds gave one adapter"),
        ("adapter acts", "fresh adapter changes"),
        ("base trains", "base must stay frozen"),
        ("weight ignored", "does not switch the adapter off"),
        ("hidden adapter", "must hold every adapter parameter"),
    ],
)
def test_backbone_faults(fault: str, words: str, tmp_path: Path) -> None:
    class Case(BackboneConformance):
        spec = BackboneSpec(
            name="tiny", config=NoOptions, factory=lambda _: FaultyBackbone(fault), summary="faulty", size_multiple=8
        )

    assert_caught(verdicts(Case(), tmp_path), words)


@pytest.mark.parametrize(
    ("adapters", "words"), [({"lost": Path("/nowhere")}, "where nothing is"), ({"a/b": Path(__file__)}, "like a path")]
)
def test_backbone_that_brings_no_usable_adapter_is_caught(
    adapters: dict[str, Path], words: str, tmp_path: Path
) -> None:
    class Case(BackboneConformance):
        spec = BackboneSpec(
            name="tiny",
            config=NoOptions,
            factory=lambda _: TinyBackbone(TinyConfig()),
            summary="a base",
            size_multiple=8,
            adapters=lambda _: adapters,
        )

    assert_caught(verdicts(Case(), tmp_path), words)


@dataclass
class Loop:
    """A sampler that keeps its contract; each fault breaks it in one way."""

    fault: str = ""

    def sample(self, backbone: Any, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        if self.fault == "keeps the graph":
            return self._loop(backbone, request, on_step) + torch.zeros(1, requires_grad=True)
        with torch.no_grad():
            return self._loop(backbone, request, on_step)

    def _loop(self, backbone: Any, request: SampleRequest, on_step: OnStep | None) -> torch.Tensor:
        x = backbone.noise(request.size_hw, request.generators)
        if self.fault == "global noise":
            x = Tokens(values=torch.randn_like(x.values), ids=x.ids)
        if self.fault == "fixed noise":
            x = Tokens(values=torch.zeros_like(x.values), ids=x.ids)
        times = backbone.timesteps(request.steps, x.length).tolist()
        for step, (t, after) in enumerate(itertools.pairwise(times)):
            batch = torch.full((len(x.values),), t)
            conditions = () if self.fault == "no conditions" else request.conditions
            velocity = backbone.velocity(x, batch, request.text, conditions)
            values = x.values + (after - t) * velocity
            if on_step is not None and self.fault != "no callback":
                answer = on_step(step, t if self.fault == "time before" else after, {"latents": values})
                if answer and self.fault != "answer dropped":
                    values = answer["latents"]
            x = Tokens(values=values, ids=x.ids)
        images = backbone.decode(x.values, request.size_hw)
        return images * 127.5 if self.fault == "range 255" else images


def sampler_case(fault: str, needs: frozenset[str] = frozenset()) -> SamplerConformance:
    class Case(SamplerConformance):
        spec = SamplerSpec(name="loop", config=NoOptions, factory=lambda _: Loop(fault), summary="a loop", needs=needs)

    return Case()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("keeps the graph", "no_grad"),
        ("global noise", "torch's global generator"),
        ("fixed noise", "two seeds gave one image"),
        ("no conditions", "conditions are ignored"),
        ("no callback", "expected 0..2"),
        ("time before", "t must be 0"),
        ("answer dropped", "were not used"),
        ("range 255", "outside [-1, 1]"),
    ],
)
def test_sampler_faults(fault: str, words: str) -> None:
    assert not verdicts(sampler_case(""))
    assert_caught(verdicts(sampler_case(fault)), words)


def test_insertion_that_repaints_the_background_is_caught() -> None:
    assert_caught(verdicts(sampler_case("", frozenset({"background"}))), "outside the region have changed")


@dataclass
class Closeness:
    """Negative mean difference to the target."""

    fault: str = ""

    def __post_init__(self) -> None:
        self.values: list[Any] = []

    def update(self, result: Result, scene: Scene, target: Any) -> None:
        images = result.images[:1] if self.fault == "first image only" else result.images
        for image in images:
            shown = np.asarray(image, np.float64)
            if target is None:
                self.values.append(0.0 if self.fault == "zero without target" else float("nan"))
                continue
            if self.fault == "writes":
                target += 1
            value = -float(np.abs(shown - target).mean())
            self.values.append({"numpy": np.float32(value), "reversed": -value}.get(self.fault, value))

    def compute(self) -> Mapping[str, Sequence[float]]:
        values = sorted(self.values) if self.fault == "sorted" else list(self.values)
        if self.fault == "empties":
            self.values.clear()
        return {"closeness": values}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("first image only", "AssertionError"),
        ("zero without target", "AssertionError"),
        ("writes", "read-only"),
        ("numpy", "Python floats"),
        ("reversed", "scores as well"),
        ("sorted", "on the order"),
        ("empties", "AssertionError"),
    ],
)
def test_metric_faults(fault: str, words: str) -> None:
    def case(fault: str) -> MetricConformance:
        class Case(MetricConformance):
            spec = MetricSpec(
                name="closeness",
                config=NoOptions,
                factory=lambda _: Closeness(fault),
                summary="difference",
                needs=frozenset({"target"}),
            )

        return Case()

    assert not verdicts(case(""))
    assert_caught(verdicts(case(fault)), words)


@dataclass(frozen=True)
class Counter:
    """Adds ``count``."""

    fault: str = ""

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        for record in records:
            amount = len(record.get("names", ()) if self.fault == "forgives" else _named(record))
            if self.fault == "in place":
                record["count"] = amount  # type: ignore[index]
                yield record
            elif self.fault == "forgets":
                yield dict(record)
            else:
                noise = np.random.default_rng().random() if self.fault == "own randomness" else 0
                yield {**record, "count": amount + noise}


def _named(record: Mapping[str, Any]) -> Sequence[str]:
    from sigma_framework import DataError

    if "names" not in record:
        raise DataError("counter needs names")
    names: Sequence[str] = record["names"]
    return names


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("in place", "give back a new one"),
        ("forgets", "says it writes"),
        ("forgives", "DID NOT RAISE"),
        ("own randomness", "AssertionError"),
    ],
)
def test_annotator_faults(fault: str, words: str) -> None:
    def case(fault: str) -> AnnotatorConformance:
        class Case(AnnotatorConformance):
            spec = AnnotatorSpec(
                name="counter",
                config=NoOptions,
                factory=lambda _: Counter(fault),
                summary="counts",
                reads=frozenset({"names"}),
                writes=frozenset({"count"}),
            )
            records = ({"names": ["a", "b"]}, {"names": []})

        return Case()

    assert not verdicts(case(""))
    assert_caught(verdicts(case(fault)), words)


def plugin_verdicts(name: str, hook: Callable[[], Any], **attributes: Any) -> dict[str, str]:
    """What PluginConformance says of a module made on the spot."""
    module = types.ModuleType(name)
    module.sigma_register_controls = hookimpl(hook)  # type: ignore[attr-defined]
    for key, value in attributes.items():
        setattr(module, key, value)

    class Case(PluginConformance):
        pass

    Case.module = name
    sys.modules[name] = module
    try:
        return verdicts(Case())
    finally:
        del sys.modules[name]


def test_plugin_faults() -> None:
    def sigma_register_controls() -> list[ControlSpec]:
        return [
            ControlSpec(
                name="box", config=NoOptions, geometry=BoxGeometry, factory="no_such_module:Box", summary="a box"
            )
        ]

    failed = plugin_verdicts("made_on_the_spot", sigma_register_controls)
    assert_caught(failed, "no entry point")
    assert_caught(failed, "no_such_module")
    assert_caught(
        plugin_verdicts("of_tomorrow", sigma_register_controls, SIGMA_PLUGIN_API=2), "SIGMA_PLUGIN_API: found 2"
    )
    assert_caught(plugin_verdicts("of_nothing", lambda: []), "no hook gave a spec")


def test_plugin_that_imports_torch_when_it_is_listed_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_plugin.py").write_text(
        "import torch\nfrom sigma_framework import hookimpl\n\n"
        "@hookimpl\ndef sigma_register_controls():\n    return []\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    class Case(PluginConformance):
        module = "heavy_plugin"

    with pytest.raises(AssertionError, match="registering imports torch"):
        Case().test_listing_it_imports_nothing_heavy()


def test_a_class_that_sets_nothing_is_told_what_to_set() -> None:
    with pytest.raises(pytest.fail.Exception, match="must set `module`"):
        PluginConformance().test_it_is_found_by_its_entry_point()


def test_options_that_the_recipe_reader_refuses_are_refused_here() -> None:
    class Case(ControlConformance):
        spec = ControlSpec(name="box", config=NoOptions, geometry=BoxGeometry, factory=Box, summary="a box")
        options = {"dilate": 3}

    with pytest.raises(AssertionError, match="dilate"):
        Case().make()
