"""Loading: merging, origins, removals, overrides, references; and what is refused, with which words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sigma_framework import RecipeError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe import check_recipe, load_recipe, load_variant, shipped_recipes

WriteRecipe = Callable[[str, Mapping[str, Any] | str], Path]


def problems_of(*arguments: Any, **options: Any) -> list[str]:
    return [str(problem) for problem in load_recipe(*arguments, **options).problems]


def test_maps_merge_by_key_and_lists_are_replaced(write_recipe: WriteRecipe) -> None:
    write_recipe(
        "below.yaml", {"task": "train", "train": {"batch_size": 2, "lora": {"rank": 4, "targets": ["a", "b"]}}}
    )
    path = write_recipe("above.yaml", {"extends": "below.yaml", "train": {"lora": {"targets": ["c"]}}})
    data = load_recipe(path).data
    assert data["train"] == {"batch_size": 2, "lora": {"rank": 4, "targets": ["c"]}}
    assert "extends" not in data


def test_several_parents_left_to_right(write_recipe: WriteRecipe) -> None:
    write_recipe("one.yaml", {"run": {"seed": 1, "log_every": 1}})
    write_recipe("two.yaml", {"run": {"seed": 2}})
    path = write_recipe("both.yaml", {"extends": ["one.yaml", "two.yaml"], "task": "train"})
    assert load_recipe(path).data["run"] == {"seed": 2, "log_every": 1}


def test_extends_is_relative_to_the_writing_file(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipe("shared/deep/base.yaml", {"run": {"seed": 7}})
    write_recipe("shared/middle.yaml", {"extends": "deep/base.yaml"})
    path = write_recipe("own/top.yaml", {"extends": "../shared/middle.yaml", "task": "train"})
    monkeypatch.chdir("/")
    assert load_recipe(path).data["run"] == {"seed": 7}


def test_circle_is_named(write_recipe: WriteRecipe) -> None:
    write_recipe("a.yaml", {"extends": "sub/b.yaml"})
    write_recipe("sub/b.yaml", {"extends": "../sub/../a.yaml"})
    with pytest.raises(RecipeError, match=r"a.yaml extends b.yaml extends a.yaml"):
        load_recipe(write_recipe("a.yaml", {"extends": "sub/b.yaml"}))


def test_diamond_is_no_circle(write_recipe: WriteRecipe) -> None:
    write_recipe("root.yaml", {"run": {"seed": 1}})
    write_recipe("left.yaml", {"extends": "root.yaml"})
    write_recipe("right.yaml", {"extends": "root.yaml"})
    path = write_recipe("top.yaml", {"extends": ["left.yaml", "right.yaml"]})
    assert load_recipe(path).data["run"] == {"seed": 1}


def test_missing_parent_is_told_with_the_nearest(write_recipe: WriteRecipe) -> None:
    path = write_recipe("top.yaml", {"extends": "nothing_here.yaml"})
    with pytest.raises(RecipeError, match=r'extends: found "nothing_here.yaml"'):
        load_recipe(path)


def test_every_value_remembers_its_origin(write_recipe: WriteRecipe) -> None:
    write_recipe("below.yaml", {"run": {"seed": 1, "log_every": 3}})
    path = write_recipe("above.yaml", {"extends": "below.yaml", "task": "train", "run": {"seed": 2}})
    loaded = load_recipe(path, ["train.batch_size=4"])
    assert str(loaded.origin(("run", "seed"))) == "above.yaml:run.seed"
    assert str(loaded.origin(("run", "log_every"))) == "below.yaml:run.log_every"
    assert str(loaded.origin(("train", "batch_size"))) == "override"
    assert str(loaded.origin(("train", "devices"))) == "default"


def test_null_removes_an_inherited_entry(write_recipe: WriteRecipe) -> None:
    write_recipe("below.yaml", {"metrics": {"a": {"type": "score"}, "b": {"type": "score"}}})
    path = write_recipe("above.yaml", {"extends": "below.yaml", "metrics": {"a": None}})
    assert load_recipe(path).data["metrics"] == {"b": {"type": "score"}}
    assert load_recipe(path, ["metrics.b=null"]).data["metrics"] == {}


def test_null_for_what_nobody_inherited_is_a_mistake(write_recipe: WriteRecipe) -> None:
    path = write_recipe("top.yaml", {"metrics": {"dino": {"type": "score"}}})
    (text,) = problems_of(path, ["metrics.dinno=null"])
    assert text.startswith("metrics.dinno:") and "did you mean 'dino'?" in text


def test_null_is_a_value_elsewhere(write_recipe: WriteRecipe) -> None:
    path = write_recipe("top.yaml", {"run": {"dir": "x"}})
    assert load_recipe(path, ["run.dir=null"]).data["run"] == {"dir": None}


def test_block_whose_type_changes_starts_from_nothing(write_recipe: WriteRecipe) -> None:
    write_recipe("below.yaml", {"sampler": {"type": "blend", "start": 0.5, "steps": 3}})
    path = write_recipe("above.yaml", {"extends": "below.yaml", "sampler": {"type": "plain"}})
    assert load_recipe(path).data["sampler"] == {"type": "plain"}
    below = path.with_name("below.yaml")
    assert load_recipe(below, ["sampler.steps=9", "sampler.type=plain"]).data["sampler"] == {
        "type": "plain",
        "steps": 9,
    }
    assert load_recipe(below, ["sampler.type=blend"]).data["sampler"]["start"] == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.lora.rank=8", 8),
        ("train.lora.rank=1e-4", 0.0001),
        ("train.lora.rank=true", True),
        ("train.lora.rank=null", None),
        ("train.lora.rank=", ""),
        ("train.lora.rank=[1, b]", [1, "b"]),
        ("train.lora.rank={a: 1}", {"a": 1}),
        ("train.lora.rank=a=b", "a=b"),
        ("train.lora.rank='x: y'", "x: y"),
    ],
)
def test_override_values_are_yaml(text: str, value: Any) -> None:
    assert load_recipe({"task": "train"}, [text]).data["train"]["lora"]["rank"] == value


def test_later_override_wins() -> None:
    assert load_recipe({}, ["run.seed=1", "run.seed=2"]).data["run"]["seed"] == 2


@pytest.mark.parametrize("text", ["run.seed", "=3", "run..seed=1", "run.seed=[1"])
def test_override_that_cannot_be_read(text: str) -> None:
    assert len(problems_of({}, [text])) == 1


def test_override_below_a_value() -> None:
    (text,) = problems_of({"run": {"seed": 1}}, ["run.seed.x=3"])
    assert "run.seed is 1, expected a map" in text


def test_override_of_an_entry_that_is_not_there() -> None:
    (text,) = problems_of({"stages": {"s1": {"steps": 1}}}, ["stages.s11.steps=3"])
    assert "did you mean 's1'?" in text and "stages.s11={steps: ...}" in text


@pytest.mark.parametrize(
    "texts",
    [
        ["stages.s2={steps: 3}"],
        ["adapters.own.path=x"],
        ["metrics.m.type=score"],
        ["controls.c.grow_px=1", "controls.c.type=box"],
    ],
)
def test_override_may_add_an_entry(texts: list[str]) -> None:
    assert problems_of({"stages": {"s1": {"steps": 1}}}, texts) == []


def test_what_a_recipe_extends_cannot_be_overridden() -> None:
    assert len(problems_of({}, ["extends=other.yaml"])) == 1


def test_references_keep_types_and_fill_texts() -> None:
    loaded = load_recipe(
        {
            "run": {"seed": 5, "dir": "runs/${run.seed}-${images}"},
            "images": "${run.seed}",
            "train": {"lora": "${a.b}"},
            "a": {"b": {"rank": 1}},
        }
    )
    assert loaded.data["images"] == 5
    assert loaded.data["run"]["dir"] == "runs/5-5"
    assert loaded.data["train"]["lora"] == {"rank": 1}
    assert loaded.problems == ()


def test_references_see_overrides() -> None:
    assert load_recipe({"run": {"seed": 5}, "images": "${run.seed}"}, ["run.seed=6"]).data["images"] == 6


def test_circle_of_references_is_named() -> None:
    found = problems_of({"a": "${b}", "b": "${c}", "c": "${a}"})
    assert any("a -> b -> c -> a" in text for text in found)
    assert problems_of({"a": {"b": "${a}"}})


def test_reference_to_nothing_names_the_nearest() -> None:
    (text,) = problems_of({"run": {"seed": 1}, "images": "${run.sede}"})
    assert "run.sede" in text and "did you mean 'seed'?" in text


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:HOME}",
        "${oc.${x}:HOME}",
        "${${x}:HOME}",
        "${oc.env:${x}}",
        "${env:${x}}",
        "${env:HOME,default}",
        "${oc.decode:'1'}",
        "${oc.create:{a: 1}}",
        "${.relative}",
        "${..above}",
        "${a[0]}",
        "${ run.seed }",
        "${}",
        "\\${run.seed",
        "x ${run.seed} ${oc.env:HOME}",
    ],
)
def test_no_other_resolver(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "canary-home")
    loaded = load_recipe({"run": {"dir": text, "seed": 1}, "x": "env"}, allow_env=["HOME"])
    assert loaded.problems
    assert "canary-home" not in repr(loaded.data)


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "${oc.${x}:HOME}", "${", "${a b}"])
def test_no_other_resolver_in_a_file(text: str, write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "canary-home")
    path = write_recipe("bad.yaml", f"task: train\nx: env\nrun: {{dir: '{text}'}}\n")
    try:
        loaded = load_recipe(path)
    except RecipeError as error:
        assert "run.dir" in str(error)
    else:
        assert loaded.problems and "canary-home" not in repr(loaded.data)


def test_environment_needs_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGMA_CANARY", "secret-value")
    recipe = {"run": {"dir": "${env:SIGMA_CANARY}"}}
    (text,) = problems_of(recipe)
    assert "--allow-env SIGMA_CANARY" in text and "secret-value" not in text
    allowed = load_recipe(recipe, allow_env=["SIGMA_CANARY"])
    assert allowed.data["run"]["dir"] == "secret-value"
    assert allowed.redacted["run"]["dir"] == "${env:SIGMA_CANARY}"
    assert "secret-value" not in repr(allowed.redacted)
    monkeypatch.delenv("SIGMA_CANARY")
    assert "is not set" in problems_of(recipe, allow_env=["SIGMA_CANARY"])[0]


def test_value_from_the_environment_is_not_read_as_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGMA_CANARY", "${run.seed}")
    loaded = load_recipe({"run": {"seed": 1, "dir": "${env:SIGMA_CANARY}"}}, allow_env=["SIGMA_CANARY"])
    assert loaded.data["run"]["dir"] == "${run.seed}"


def test_references_cannot_explode() -> None:
    recipe: dict[str, Any] = {"k0": ["x"] * 10}
    for step in range(1, 12):
        recipe[f"k{step}"] = [f"${{k{step - 1}}}"] * 10
    assert any("values through references" in text for text in problems_of(recipe))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "an empty file"),
        ("# nothing\n", "an empty file"),
        ("- a\n- b\n", "a list"),
        ("word\n", "the text"),
        ("3\n", "the text"),
        ("task: train\ntask: build\n", "key task twice"),
        ("run:\n  seed: 1\n  seed: 2\n", "key seed twice"),
        ("run:\n\tseed: 1\n", "line 2: found a tab"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag !!python/object/apply:os.system"),
        ("a: !mine 3\n", "tag !mine"),
        ("a: [1, 2\n", "not readable as YAML"),
        ("a: &x [*x]\n", "not readable as YAML"),
        ("3: a\n", "found the key 3, expected text"),
        ("run: {yes: a}\n", "expected text"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a: " + "{a: " * 40 + "1" + "}" * 40, "more than 32 levels"),
        ("a: " + "9" * 5000, "not readable as YAML"),
        ("a: 1\n---\nb: 2\n", "not readable as YAML"),
        ("x: '" + "y" * 1_100_000 + "'\n", "more than 1000000 bytes"),
    ],
)
def test_what_is_no_recipe(content: str, expected: str, write_recipe: WriteRecipe) -> None:
    path = write_recipe("bad.yaml", content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", [b"task: \xff\xfe", "task: train".encode("utf-16"), b"task: \x00"])
def test_not_utf8(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        load_recipe(path)


def test_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbftask: train\n")
    assert load_recipe(path).data == {"task": "train"}


def test_path_comes_before_a_shipped_name(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(name for name in shipped_recipes() if "/" not in name)
    assert load_recipe(name).path == shipped_recipes()[name]
    assert load_recipe(f"{name}.yaml").path == shipped_recipes()[name]
    own = write_recipe(f"{name}.yaml", {"task": "build"})
    monkeypatch.chdir(own.parent)
    assert load_recipe(name).path == own
    assert load_recipe(f"{name}.yaml").data == {"task": "build"}


def test_unknown_recipe_names_the_nearest() -> None:
    name = next(name for name in shipped_recipes() if not name.startswith("_"))
    with pytest.raises(RecipeError, match=f"did you mean '{name}'"):
        load_recipe(name[:-1])
    with pytest.raises(RecipeError, match="a folder"):
        load_recipe("/")


def test_paths_are_relative_to_the_file_that_writes_them(
    write_recipe: WriteRecipe,
    host: PluginHost,
    generate: dict[str, Any],
    shipped: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = write_recipe(
        "shared/base.yaml", {**generate, "scene": "scenes/a.yaml", "adapters": {"own": {"path": "./weights"}}}
    )
    top = write_recipe(
        "top/top.yaml", {"extends": "../shared/base.yaml", "backbone": {"folder": "here", "weights": "../w"}}
    )
    work = base.parents[1] / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    recipe = check_recipe(load_recipe(top, ["background=photo.png", "adapters.shipped.path=pocket"]), host)
    assert recipe.scene == base.parent / "scenes/a.yaml"
    assert recipe.background == work / "photo.png"
    assert Path(recipe.adapters["own"].path) == base.parent / "weights"
    assert recipe.adapters["shipped"].path == str(shipped)
    assert recipe.require_backbone().config.folder == top.parent / "here"
    assert Path(recipe.require_backbone().config.weights).resolve() == base.parents[1] / "w"


def test_path_behind_a_reference_belongs_to_the_file_that_wrote_it(
    write_recipe: WriteRecipe, host: PluginHost, generate: dict[str, Any]
) -> None:
    base = write_recipe("shared/base.yaml", {**generate, "scene": "a.yaml"})
    top = write_recipe("top/top.yaml", {"extends": "../shared/base.yaml", "background": "${scene}"})
    assert check_recipe(load_recipe(top), host).background == base.parent / "a.yaml"


@pytest.mark.parametrize("text", ["http://x/y", "pipe:rm -rf /", "file:///etc/passwd", "~/scene.yaml", "s3://b/k"])
def test_only_local_paths(text: str, host: PluginHost, generate: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="expected a local path"):
        check_recipe(load_recipe({**generate, "scene": text}), host)


def test_variants_of_a_sweep(generate: dict[str, Any]) -> None:
    loaded = load_recipe(
        {
            **generate,
            "task": "sweep",
            "sweep": {"variants": {"short": {"sampler.steps": 1, "run.seed": 9}, "same": {}}},
        },
        ["sampler.steps=7"],
    )
    assert load_variant(loaded, "short").data["sampler"]["steps"] == 1
    assert load_variant(loaded, "short").data["run"]["seed"] == 9
    assert load_variant(loaded, "same").data["sampler"]["steps"] == 7
    assert load_variant(loaded, "short").name == "recipe-short"
    with pytest.raises(RecipeError, match="no such variant"):
        load_variant(loaded, "shorter")
