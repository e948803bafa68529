"""Plain data against dataclasses: all problems in one pass, nothing converted silently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from sigma_framework.dataclass_schema import Range, build, describe, file_fields, shown
from sigma_framework.types import Raster


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: Annotated[float, Range(above=0)] = 1.0
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: Annotated[int, Range(low=1, high=10)]
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] | None = None
    folder: Path | None = None
    size: int | tuple[int, int] = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    on: bool = True
    picture: Annotated[Any, Raster("mask")] = None

    def __post_init__(self) -> None:
        if self.kind == "b" and self.steps > 5:
            raise ValueError("steps must be at most 5 with kind b")


def problems(**data: Any) -> list[str]:
    return [str(problem) for problem in build(Outer, data, "x").problems]


def test_right_data_becomes_an_instance() -> None:
    checked = build(
        Outer,
        {"steps": 2, "inner": {"lr": 3}, "names": ["a"], "folder": "f/g", "size": [1, 2], "weights": {"a": 1}},
        "x",
    )
    assert checked.problems == ()
    expected = Outer(steps=2, inner=Inner(lr=3.0), names=("a",), folder=Path("f/g"), size=(1, 2), weights={"a": 1.0})
    assert checked.value == expected
    assert isinstance(checked.value.inner.lr, float)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "x.steps: missing, expected a whole number from 1 to 10"),
        ({"steps": "8"}, 'x.steps: found "8", expected a whole number from 1 to 10'),
        ({"steps": True}, "x.steps: found true, expected a whole number from 1 to 10"),
        ({"steps": 1.0}, "x.steps: found 1.0, expected a whole number from 1 to 10"),
        ({"steps": 0}, "x.steps: found 0, expected a whole number from 1 to 10"),
        ({"steps": 11}, "x.steps: found 11, expected a whole number from 1 to 10"),
        ({"steps": 1, "inner": {"lr": 0}}, "x.inner.lr: found 0, expected a number above 0"),
        ({"steps": 1, "inner": {"lr": float("nan")}}, "x.inner.lr: found nan, expected a finite number"),
        ({"steps": 1, "inner": 3}, "x.inner: found 3, expected a map"),
        ({"steps": 1, "kind": "c"}, 'x.kind: found "c", expected one of a, b'),
        ({"steps": 1, "on": 1}, "x.on: found 1, expected true or false"),
        ({"steps": 1, "on": None}, "x.on: found nothing, expected true or false"),
        ({"steps": 1, "names": "a"}, 'x.names: found "a", expected a list of texts or null'),
        ({"steps": 1, "names": ["a", 3]}, "x.names[1]: found 3, expected text; quote it"),
        ({"steps": 1, "folder": 3}, "x.folder: found 3, expected a path or null"),
        ({"steps": 1, "size": [1, 2, 3]}, "x.size: found 3 values, expected a list of 2 whole numbers"),
        ({"steps": 1, "inner": {"betas": [1]}}, "x.inner.betas: found 1 values, expected a list of 2 numbers"),
        ({"steps": 1, "weights": {"a": "b"}}, 'x.weights.a: found "b", expected a number'),
        ({"steps": 1, "stepss": 1}, "x.stepss: unknown key; did you mean 'steps'?"),
        ({"steps": 1, "lrr": 1}, "x.lrr: unknown key; did you mean 'inner.lr'?"),
        ({"steps": 6, "kind": "b"}, "x: steps must be at most 5 with kind b"),
    ],
)
def test_each_mistake_is_told(data: dict[str, Any], expected: str) -> None:
    assert problems(**data) == [expected]


def test_unknown_key_lists_what_there_is() -> None:
    (text,) = problems(steps=1, zzz=1)
    assert text.startswith("x.zzz: unknown key; known keys: folder, inner, kind, names")


def test_keys_read_elsewhere_count_as_known() -> None:
    checked = build(Inner, {"guidanc": 1}, "x", beside=("guidance",))
    assert [str(problem) for problem in checked.problems] == ["x.guidanc: unknown key; did you mean 'guidance'?"]


def test_all_problems_come_together() -> None:
    assert len(problems(kind="c", on=3, zzz=1, inner={"lr": -1, "betas": []})) == 6


def test_pictures_pass_untouched() -> None:
    picture = object()
    assert build(Outer, {"steps": 1, "picture": picture}, "").value.picture is picture
    assert file_fields(Outer) == {"picture": Raster("mask")}


def test_words_for_people() -> None:
    assert describe(Annotated[int, Range(low=1)] | None) == "a whole number of at least 1 or null"
    assert describe(Annotated[float, Range(above=0, high=2)]) == "a number above 0 and of at most 2"
    assert shown("a" * 80) == '"' + "a" * 57 + '..."'
    assert shown([1, None, "a"]) == '[1, nothing, "a"]'
