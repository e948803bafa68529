"""Checking: every mistake at once, in words that help; and what a right recipe becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sigma_framework import BackboneSpec, PluginError, RecipeError, hookimpl
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe import Recipe, check_recipe, disabled_plugins, load_recipe, shipped_recipes
from sigma_framework.recipe.build import (
    build_annotators,
    build_backbone,
    build_control,
    build_named_control,
    build_objective,
    control_specs,
)
from sigma_framework.recipe.config_text import config_text, origins_of
from sigma_framework.recipe.explain import explain, plugin_listing
from sigma_framework.recipe.scene_fit import default_size

WriteRecipe = Callable[[str, Mapping[str, Any] | str], Path]


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Nothing to set."""


class OtherBases:
    """A base that brings no adapters, and one that cannot tell which."""

    @hookimpl
    def sigma_register_backbones(self) -> list[BackboneSpec]:
        bare = BackboneSpec(name="bare", config=NoOptions, factory=lambda config: config, summary="no adapters")
        return [
            bare,
            replace(bare, name="broken", adapters="no_such_module:adapters"),
            replace(bare, name="listing", adapters=lambda config: ["pocket"]),
            replace(bare, name="unsized", sizes=lambda config: (128, 128)),
            replace(bare, name="numberless", explain=lambda config, facts: 3),
        ]


def checked(recipe: Mapping[str, Any] | Path, host: PluginHost, *overrides: str, **options: Any) -> Recipe:
    return check_recipe(load_recipe(recipe, overrides, **options), host)


def problems_of(recipe: Mapping[str, Any] | Path, host: PluginHost, *overrides: str, **options: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        checked(recipe, host, *overrides, **options)
    return [str(problem) for problem in caught.value.problems]


def test_five_mistakes_give_five_problems(write_recipe: WriteRecipe, host: PluginHost, train: dict[str, Any]) -> None:
    train["train"] = {"lrr": 1, "batch_size": "many"}
    train["backbone"] = {"type": "bass"}
    train["controls"]["wide"]["growpx"] = 1
    path = write_recipe("bad.yaml", train)
    found = problems_of(path, host, "run.sede=3")
    assert sorted(found) == [
        "backbone.type: no backbone named 'bass', expected one of: base; did you mean 'base'?",
        "controls.wide.growpx: unknown key; did you mean 'grow_px'?",
        "run.sede: unknown key (from an override); did you mean 'seed'?",
        'train.batch_size: found "many", expected a whole number of at least 1',
        "train.lrr: unknown key; did you mean 'optimizer.lr'?",
    ]


def test_message_names_the_recipe_and_the_count(write_recipe: WriteRecipe, host: PluginHost) -> None:
    path = write_recipe("bad.yaml", {"task": "trian", "x": 1})
    with pytest.raises(RecipeError) as caught:
        checked(path, host)
    assert str(caught.value).splitlines()[0] == f"{path}: 2 problems"


def test_value_of_another_file_names_that_file(
    write_recipe: WriteRecipe, host: PluginHost, generate: dict[str, Any]
) -> None:
    write_recipe("base.yaml", {"run": {"seed": -1}})
    (text,) = problems_of(write_recipe("top.yaml", {"extends": "base.yaml", **generate}), host)
    assert "(written in base.yaml)" in text


def test_defaults_are_the_papers(host: PluginHost, train: dict[str, Any]) -> None:
    recipe = checked(train, host)
    assert (recipe.train.batch_size, recipe.train.lora.rank, recipe.train.lora.alpha) == (8, 128, 128.0)
    assert recipe.train.optimizer.type == "prodigy"
    assert recipe.conditioning.channel_dropout == 0.1
    assert recipe.stages["s1"].optimizer == "carry_d"
    assert checked({**train, "sampler": {"type": "plain"}}, host).require_sampler().steps == 28
    assert list(recipe.stages) == ["s1", "s2"]
    assert recipe.run_folder == Path("runs/recipe")


def test_core_keys_do_not_reach_the_plugin(host: PluginHost, train: dict[str, Any]) -> None:
    train["datasources"]["main"]["weight"] = 3
    train["sampler"] = {"type": "blend", "start": 0.5, "true_cfg": 2.0, "guidance": None}
    recipe = checked(train, host)
    assert recipe.datasources["main"].weight == 3.0
    sampler = recipe.require_sampler()
    assert (sampler.config.start, sampler.true_cfg, sampler.guidance, sampler.steps) == (0.5, 2.0, None, 28)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=null"], "task: found nothing, expected one of train"),
        (["backbone=null"], "backbone: missing, expected for the task train; one of: base"),
        (["sampler=null"], "sampler: missing, expected for the task train"),
        (["datasources.main=null"], "datasources: missing, expected for the task train"),
        (["stages.s1=null", "stages.s2=null"], "stages: missing, expected at least one stage"),
        (["granularities.boxes=null"], "granularities: missing"),
        (["backbone={}"], None),
        (
            ["backbone.type=3"],
            "backbone.type: found 3, expected the name of a backbone (from an override); one of: base",
        ),
        (["backbone=3"], "backbone: found 3, expected a map with the key type"),
        (["sampler.stepps=1"], "sampler.stepps: unknown key (from an override); did you mean 'steps'?"),
        (["sampler.steps=0"], "sampler.steps: found 0, expected a whole number of at least 1"),
        (["controls.wide.grow_px=-1"], "controls.wide: grow_px must be at least 0, found -1"),
        (["controls.wide=3"], "controls.wide: found 3, expected a map"),
        (["granularities.boxes.control=wid"], "granularities.boxes.control: no control named 'wid'"),
        (["granularities.boxes.control=null"], "granularities.boxes.control: missing"),
        (["granularities.boxes.weight=0"], "granularities: found only weights of 0"),
        (["granularities.boxes.weight=-1"], "granularities.boxes.weight: found -1"),
        (["granularities.boxes.mixed=true"], "granularities.boxes: found both control and mixed"),
        (["granularities.boxes={mixed: true}", "granularities.boxes.control=null"], "expected another granularity"),
        (["datasources.main.weight=-1"], "datasources.main.weight: found -1, expected a number of at least 0"),
        (
            ["datasources.main.wieght=1"],
            "datasources.main.wieght: unknown key (from an override); did you mean 'weight'?",
        ),
        (["stages.s1.datasources=[mian]"], 'stages.s1.datasources: found "mian", expected a name under datasources'),
        (["stages.s1.datasources=[]"], "stages.s1.datasources: found an empty list"),
        (["stages.s1.subjects={max: 2}"], "stages.s1.subjects: found 1 to 2 subjects, which none of its data sources"),
        (["stages.s1.subjects={min: 4, max: 2}"], "stages.s1.subjects: found min 4 and max 2"),
        (["stages.s1.steps=1.5"], "stages.s1.steps: found 1.5, expected a whole number of at least 1"),
        (["stages.s1.optimizer=kep"], "did you mean 'keep'?"),
        (["train.batch_size=8", "train.devices=3"], "train.batch_size: found 8, which cannot be split over 3 devices"),
        (["train.optimizer.type=adamw"], "train.optimizer.lr: missing, expected a number for adamw"),
        (["train.optimizer.lr=.nan"], "train.optimizer.lr: found nan, expected a finite number"),
        (["train.objective=pretrian"], 'train.objective: found "pretrian", expected one of: adapter, pretrain'),
        (["train.objective=pretrain"], "train.objective_options.width: missing, expected a whole number"),
        (["train.objective_options={a: 1}"], "train.objective_options: found options, expected none"),
        (["train=3"], "train: found 3, expected a map"),
        (["stages=[a]"], 'stages: found ["a"], expected a map'),
        (["run.dir=???"], "run.dir: missing, expected a value"),
        (["conditioning.full_prompt_share=1.5"], "found 1.5, expected a number from 0 to 1"),
        (["evaluate.source=mian"], 'evaluate.source: found "mian"'),
        (["evaluate.control=nothing"], "evaluate.control: no control named 'nothing'"),
        (["adapters.own={}"], "adapters.own.path: missing, expected text"),
        (["_target_=os.system"], "_target_: unknown key"),
        (["backbone._target_=os.system"], "backbone._target_: unknown key"),
        (["task=evaluate"], "metrics: missing, expected for the task evaluate; one of: score"),
        (["task=build"], "annotators: missing, expected for the task build"),
        (["task=sweep"], "sweep.variants: missing"),
        (["images=0"], "images: found 0, expected a whole number of at least 1"),
        (["plugins.disable=a"], 'plugins.disable: found "a", expected a list of texts'),
    ],
)
def test_each_mistake(host: PluginHost, train: dict[str, Any], overrides: list[str], expected: str | None) -> None:
    if expected is None:
        checked(train, host, *overrides)
    else:
        found = problems_of(train, host, *overrides)
        assert any(expected in text for text in found), found


def test_one_mistake_is_told_once(host: PluginHost, train: dict[str, Any]) -> None:
    assert len(problems_of(train, host, "backbone.type=bass")) == 1
    assert len(problems_of(train, host, "stages.s1.steps=0")) == 1


def test_names_of_own_entries(host: PluginHost, train: dict[str, Any]) -> None:
    train["metrics"] = {"a b": {"type": "score"}}
    assert "expected letters, digits" in problems_of(train, host)[0]


def test_scene_is_needed_only_when_it_runs(host: PluginHost, generate: dict[str, Any]) -> None:
    assert checked(generate, host).scene is None


def test_order_of_annotators(host: PluginHost) -> None:
    recipe = {
        "task": "build",
        "datasources": {"main": {"type": "few"}},
        "annotators": {"second": {"type": "reader"}, "first": {"type": "maker"}},
    }
    (text,) = problems_of(recipe, host)
    assert "put 'first' first" in text
    right = checked(recipe, host, "build.stages=[first, second]")
    assert list(build_annotators(right, host)) == ["first", "second"]


def test_every_variant_of_a_sweep_is_checked(host: PluginHost, generate: dict[str, Any]) -> None:
    recipe = {
        **generate,
        "task": "sweep",
        "datasources": {"main": {"type": "few"}},
        "metrics": {"m": {"type": "score"}},
        "sweep": {"variants": {"good": {"sampler.steps": 2}, "bad": {"sampler.steps": 0, "run.sede": 1}}},
    }
    found = problems_of(recipe, host)
    assert len(found) == 2 and all(text.startswith("sweep.variants.bad: ") for text in found)


def test_secret_never_reaches_a_message_or_the_plain_form(
    host: PluginHost, generate: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "canary-" + "0123456789" * 9
    monkeypatch.setenv("SIGMA_CANARY", secret)
    generate["backbone"]["weights"] = "${env:SIGMA_CANARY}"
    recipe = checked(generate, host, allow_env=["SIGMA_CANARY"])
    assert recipe.require_backbone().config.weights == secret
    shown = (
        json.dumps(recipe.plain()) + config_text(recipe) + repr(load_recipe(generate, allow_env=["SIGMA_CANARY"]).tree)
    )
    assert "canary-" not in shown and "${env:SIGMA_CANARY}" in shown
    generate["images"] = "${env:SIGMA_CANARY}"
    assert "canary-" not in str(problems_of(generate, host, allow_env=["SIGMA_CANARY"]))


def test_plain_form_is_the_same_recipe_again(
    write_recipe: WriteRecipe, host: PluginHost, train: dict[str, Any]
) -> None:
    train["train"] = {"optimizer": {"lr": 1e-05}, "lora": {"targets": ["a", "b"]}}
    train["run"] = {"dir": "no: [x] # 'quoted' \"text\" é"}
    recipe = checked(write_recipe("first.yaml", train), host)
    text = config_text(recipe)
    again = checked(write_recipe("again/first.yaml", text), host)
    assert again.plain() == recipe.plain()
    assert yaml.safe_load(text)["train"]["lora"]["targets"] == ["a", "b"]
    assert again.train == recipe.train


def test_plain_form_in_another_folder_still_leads_to_its_files(
    write_recipe: WriteRecipe, host: PluginHost, generate: dict[str, Any], shipped: Path, tmp_path: Path
) -> None:
    generate.update(scene="scenes/a.yaml", adapters={"own": {"path": "./weights"}, "shipped": {"path": "pocket"}})
    recipe = checked(write_recipe("recipes/first.yaml", generate), host)
    assert recipe.plain()["scene"] == "scenes/a.yaml"
    folder = tmp_path / "runs" / "first"
    moved = checked(write_recipe("runs/first/resolved.yaml", recipe.plain(folder)), host)
    assert moved.scene is not None and recipe.scene is not None
    assert moved.scene.resolve() == recipe.scene.resolve()
    assert Path(moved.adapters["own"].path).resolve() == Path(recipe.adapters["own"].path).resolve()
    assert moved.adapters["shipped"].path == recipe.adapters["shipped"].path == str(shipped)
    assert recipe.plain(folder)["adapters"]["shipped"]["path"] == "pocket"
    assert str(tmp_path) not in json.dumps(recipe.plain(folder))


def test_a_name_of_the_backbones_is_its_folder_and_recorded_as_a_name(
    host: PluginHost, train: dict[str, Any], shipped: Path
) -> None:
    train["adapters"] = {"main": {"path": "${train.init_from}"}}
    recipe = checked(train, host, "train.init_from=pocket")
    assert recipe.adapters["main"].path == str(shipped) and recipe.train.init_from == shipped
    plain = recipe.plain(Path("elsewhere"))
    assert plain["adapters"]["main"]["path"] == plain["train"]["init_from"] == "pocket"
    assert recipe.files == {}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["backbone.weights=large", "adapters.main.path=pocket"],
            'adapters.main.path: found "pocket", which base does not bring with the weights "large" '
            "(from an override); give a folder from training, or write adapters.main=null for none",
        ),
        (
            ["adapters.main.path=poket"],
            'adapters.main.path: found "poket", which base does not bring with the weights "small" (from an override); '
            "it brings: pocket; give a folder from training, or write adapters.main=null for none",
        ),
        (
            ["backbone.type=bare", "adapters.main.path=pocket"],
            'adapters.main.path: found "pocket", which bare does not bring (from an override); '
            "give a folder from training, or write adapters.main=null for none",
        ),
        (
            ["backbone.weights=large", "train.init_from=pocket"],
            'train.init_from: found "pocket", which base does not bring with the weights "large" (from an override); '
            "give a folder from training, or write train.init_from=null for a fresh one",
        ),
        (
            ["sweep.variants.big={backbone.weights: large, adapters.main.path: pocket}"],
            'sweep.variants.big: adapters.main.path: found "pocket", which base does not bring with the weights '
            '"large" (from an override); give a folder from training, or write adapters.main=null for none',
        ),
    ],
)
def test_an_adapter_that_nobody_brings_is_told(
    host: PluginHost, train: dict[str, Any], overrides: list[str], expected: str
) -> None:
    host.register(OtherBases(), name="others", distribution="others")
    train["metrics"] = {"score": {"type": "score"}}  # a sweep's variants are evaluations
    assert problems_of(train, host, *overrides) == [expected]


def test_what_a_plugin_gives_of_the_wrong_type_names_the_plugin(host: PluginHost, train: dict[str, Any]) -> None:
    host.register(OtherBases(), name="others", distribution="others")
    train["backbone"] = {"type": "listing"}
    (text,) = problems_of(train, host, "adapters.main.path=pocket")
    assert "backbone 'listing' of others" in text and "gives list, expected a map of names to folders" in text
    train["backbone"] = {"type": "unsized"}
    with pytest.raises(PluginError, match=r"'unsized' of others.* gives tuple, expected ImageSizes or None"):
        default_size(checked(train, host).backbone)
    train["backbone"] = {"type": "numberless"}
    with pytest.raises(PluginError, match=r"'numberless' of others.* gives int, expected a map of names to numbers"):
        explain(checked(train, host), host)


def test_an_empty_path_of_an_adapter_is_refused(host: PluginHost, train: dict[str, Any]) -> None:
    (text,) = problems_of(train, host, "adapters.main.path=''")
    assert "expected a file or folder" in text and "adapters.main=null for none" in text


def test_a_wrong_backbone_is_told_alone(host: PluginHost, train: dict[str, Any]) -> None:
    keys = ["adapters.main.path=pocket", "train.init_from=pocket"]
    (text,) = problems_of(train, host, *keys, "backbone.width=wide")
    assert text.startswith("backbone.width: ")
    (text,) = problems_of(train, host, *keys, "backbone=null")
    assert text.startswith("backbone: missing")


def test_a_plugin_that_cannot_tell_its_adapters_is_named(host: PluginHost, train: dict[str, Any]) -> None:
    host.register(OtherBases(), name="others", distribution="others")
    (text,) = problems_of(train, host, "backbone.type=broken", "adapters.main.path=pocket")
    assert text.startswith("adapters.main.path: backbone 'broken' of others") and "no_such_module" in text


def test_a_bare_word_may_lie_beside_who_wrote_it(
    write_recipe: WriteRecipe, host: PluginHost, train: dict[str, Any], shipped: Path, tmp_path: Path
) -> None:
    """A name of the backbone's comes first; ``./`` says that a folder is meant."""
    for name in ("mine", "pocket"):
        (tmp_path / "recipes" / name).mkdir(parents=True)
    train["adapters"] = {"own": {"path": "mine"}, "named": {"path": "pocket"}, "folder": {"path": "./pocket"}}
    train["train"] = {"init_from": "mine"}
    recipe = checked(write_recipe("recipes/first.yaml", train), host)
    places = {name: Path(block.path) for name, block in recipe.adapters.items()}
    here = tmp_path / "recipes"
    assert places == {"own": here / "mine", "named": shipped, "folder": here / "pocket"}
    assert recipe.train.init_from == here / "mine"
    folder = tmp_path / "runs" / "first"
    moved = checked(write_recipe("runs/first/resolved.yaml", recipe.plain(folder)), host)
    assert Path(moved.adapters["own"].path).resolve() == here / "mine"


def test_origins_are_told_value_by_value(write_recipe: WriteRecipe, host: PluginHost, generate: dict[str, Any]) -> None:
    recipe = checked(write_recipe("mine.yaml", generate), host, "run.seed=4")
    origins = origins_of(recipe)
    assert origins["run.seed"] == "override"
    assert origins["sampler.steps"] == "mine.yaml:sampler.steps"
    assert origins["sampler.guidance"] == "default"
    assert "# mine.yaml:sampler.steps" in config_text(recipe)


def test_disabled_plugins_are_known_before_discovery() -> None:
    assert disabled_plugins(load_recipe({"plugins": {"disable": ["acme"]}})) == ("acme",)
    assert disabled_plugins(load_recipe({"plugins": {"disable": 3}})) == ()


def test_scene_controls_take_their_options_from_the_recipe(host: PluginHost, train: dict[str, Any]) -> None:
    recipe = checked(train, host)
    assert build_control(recipe, host, "box").grow_px == 3  # type: ignore[attr-defined]  # the config itself
    assert build_control(recipe, host, "shape").grow_px == 0  # type: ignore[attr-defined]
    assert build_named_control(recipe, host, "boxes")[0] == "box"
    assert build_named_control(recipe, host, "wide")[1].grow_px == 3  # type: ignore[attr-defined]
    assert set(control_specs(recipe, host)) == {"box", "shape"}


def test_objective_of_the_backbone_gets_its_options(host: PluginHost, train: dict[str, Any]) -> None:
    del train["granularities"]
    recipe = checked(train, host, "train.objective=pretrain", "train.objective_options.width=7", "run.seed=2")
    config, options, seed = build_objective(recipe, host)  # type: ignore[misc]  # the made-up factory gives its arguments
    assert (config, options.width, seed) == (build_backbone(recipe, host), 7, 2)
    assert recipe.plain()["train"]["objective_options"] == {"width": 7}


def test_shared_source_is_the_default_of_both_tasks(host: PluginHost, train: dict[str, Any]) -> None:
    train["datasources"]["other"] = {"type": "few"}
    recipe = checked(train, host, "source=other", "build.source=main")
    assert (recipe.evaluate.source, recipe.build.source) == ("other", "main")


def test_explanation(host: PluginHost, train: dict[str, Any]) -> None:
    facts = explain(checked(train, host), host, subjects=3)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["backbone"]["tokens"] == 24 and facts["backbone"]["licence"] == "free"
    assert [(row["stage"], row["first_step"], row["last_step"]) for row in facts["stages"]] == [
        ("s1", 1, 10),
        ("s2", 11, 15),
    ]
    backbone = next(row for row in facts["components"] if row["key"] == "backbone")
    assert (backbone["distribution"], backbone["version"], backbone["plugin"]) == ("made-up", "1.0", "made-up")


def test_plugin_listing(host: PluginHost) -> None:
    listing = plugin_listing(host)
    assert {"kind": "metric", "name": "score", "distribution": "made-up", "version": "1.0"}.items() <= listing[
        "components"
    ][[row["name"] for row in listing["components"]].index("score")].items()


LEFT_TO_THE_USER = {
    "dreambooth_flux": ("adapters.main.path=./mine", "annotators.prompts.server=http://localhost:8000/v1"),
    "evaluate_flux": ("adapters.main.path=./mine", "datasources.single.path=one", "datasources.multi.path=several"),
    "generate_flux": ("adapters.main.path=./mine",),
    "insert_flux": ("adapters.main.path=./mine",),
}


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if not name.startswith("_")])
def test_every_shipped_recipe_loads_and_checks(name: str) -> None:
    loaded = load_recipe(name, LEFT_TO_THE_USER.get(name, ()))
    recipe = check_recipe(loaded, PluginHost.discover(disabled_plugins(loaded)))
    assert recipe.name == Path(name).name
    assert check_recipe(load_recipe(recipe.plain()), PluginHost.discover()).plain() == recipe.plain()


@pytest.mark.parametrize("name", LEFT_TO_THE_USER)
def test_what_a_shipped_recipe_leaves_open_is_asked_for_by_name(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(load_recipe(name), PluginHost.discover())
    asked = {str(problem).split(":")[0] for problem in caught.value.problems}
    assert asked == {override.split("=")[0] for override in LEFT_TO_THE_USER[name]}


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("_")])
def test_every_shared_block_loads(name: str) -> None:
    assert load_recipe(name).problems == ()
