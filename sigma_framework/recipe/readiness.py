"""What ``--check`` looks at besides the recipe itself: the files it names, and its scene."""

from __future__ import annotations

from dataclasses import dataclass

from sigma_framework.conditioning.scene_layers import compose_scene
from sigma_framework.errors import Problem, RecipeError, SceneError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe.build import build_control, control_specs
from sigma_framework.recipe.check import examine
from sigma_framework.recipe.load import LoadedRecipe
from sigma_framework.recipe.records import ComponentBlock, Recipe
from sigma_framework.recipe.scene_fit import default_size, scene_warnings
from sigma_framework.scene import Scene
from sigma_framework.specs import BackboneSpec, ControlSpec

_SCENE_TASKS = frozenset({"generate", "insert", "inspect"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """A recipe that can be run."""

    recipe: Recipe
    """Checked."""
    size: tuple[int, int] | None
    """Width and height of its scene, pixels; None without a scene."""
    subjects: int | None
    """Subjects of its scene; None without a scene."""
    warnings: tuple[str, ...]
    """What will disappoint about its scene."""


def check_readiness(loaded: LoadedRecipe, host: PluginHost) -> Readiness:
    """Checks the recipe, that local files exist, and the scene; nothing heavy is imported.

    Raises:
        SceneError: the recipe is right, its scene is not.
        RecipeError: with the problems of all three together.
    """
    examined = examine(loaded, host)
    problems = list(examined.problems)
    scene: _SceneFacts | None = None
    if examined.recipe is not None:
        problems += missing_files(examined.recipe)
    try:
        scene = _scene_facts(loaded, examined.recipe, examined.backbone, host)
    except SceneError as error:
        if not problems:
            raise
        problems += [Problem(_scene_place(problem, error), problem.what, problem.remedy) for problem in error.problems]
        if not error.problems:
            problems.append(Problem("scene", error.message))
    if examined.recipe is None or problems:
        raise RecipeError(loaded.label, problems)
    if scene is None:
        return Readiness(recipe=examined.recipe, size=None, subjects=None, warnings=())
    return Readiness(recipe=examined.recipe, size=scene.size, subjects=scene.subjects, warnings=scene.warnings)


def missing_files(recipe: Recipe) -> list[Problem]:
    """Files and folders that the recipe names and that are not there; the scene's own check reports the scene."""
    return [
        Problem(
            key, f'found "{path}", which does not exist', "paths in a recipe are relative to the file that writes them"
        )
        for key, path in recipe.files.items()
        if not path.exists() and not (key == "scene" and recipe.task in _SCENE_TASKS)
    ]


@dataclass(frozen=True, slots=True)
class _SceneFacts:
    size: tuple[int, int]
    subjects: int
    warnings: tuple[str, ...]


def _scene_facts(
    loaded: LoadedRecipe, recipe: Recipe | None, backbone: ComponentBlock | None, host: PluginHost
) -> _SceneFacts | None:
    """Of the recipe's scene, if it has one; also for a recipe with other mistakes, whose backbone may yet be right.

    Raises:
        SceneError: with every problem of the scene.
    """
    task, text = loaded.data.get("task"), loaded.data.get("scene")
    if task not in _SCENE_TASKS or not isinstance(text, str):
        return None
    path = loaded.origin(("scene",)).folder / text
    controls = {name: spec for name, spec in host.specs("control").items() if isinstance(spec, ControlSpec)}
    spec = None if backbone is None else backbone.component.spec
    multiple = spec.size_multiple if isinstance(spec, BackboneSpec) else 1
    if recipe is not None:
        controls = control_specs(recipe, host)
    background = None if recipe is None else recipe.background
    size = default_size(backbone)
    resolved = Scene.load_resolved(path, controls, multiple, default_size=size, background=background)
    if task == "insert" and resolved.background is None and not loaded.data.get("background"):
        what = "missing, expected a photograph to insert into"
        raise SceneError(str(path), [Problem("background", what, "give the scene a background, or background=FILE")])
    warnings = list(resolved.warnings)
    if recipe is not None:
        kinds = {subject.control for subject in resolved.subjects}
        composed = compose_scene(resolved, {kind: build_control(recipe, host, kind) for kind in kinds})
        warnings = [*scene_warnings(recipe, resolved, task == "insert"), *warnings, *composed.warnings]
    return _SceneFacts(resolved.canvas.size_hw[::-1], len(resolved.subjects), tuple(warnings))


def _scene_place(problem: Problem, error: SceneError) -> str:
    name = error.message.rpartition("/")[2]
    return f"scene {name}: {problem.where}" if problem.where else f"scene {name}"
