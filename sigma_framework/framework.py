"""``Framework``: a recipe, its plugins, and the things one does with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_framework.adapter_facts import check_digest, check_facts
from sigma_framework.conditioning.scene_layers import encode_subjects
from sigma_framework.errors import SceneError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Progress, Silent
from sigma_framework.recipe import (
    LoadedRecipe,
    Recipe,
    check_recipe,
    disabled_plugins,
    evaluation_of,
    training_of,
)
from sigma_framework.recipe.build import (
    build_backbone,
    build_control,
    control_specs,
)
from sigma_framework.recipe.explain import explain
from sigma_framework.recipe.recall import load_recalled
from sigma_framework.recipe.scene_fit import default_size, scene_warnings
from sigma_framework.scene import ResolvedScene, Scene, Subject
from sigma_framework.specs import BackboneSpec

if TYPE_CHECKING:
    from sigma_framework.generation import ImageMaker, StepCallback
    from sigma_framework.protocols import Backbone, ControlEncoder, DataSource
    from sigma_framework.training.training_run import TrainingOutcome
    from sigma_framework.types import Result

SceneLike = Scene | str | os.PathLike[str] | Mapping[str, Any]


class Framework:
    """Runs a checked recipe.

    Attributes:
        recipe: the recipe, typed and complete.
        host: the plugins it was checked against.
        run_folder: where this recipe writes.
        progress: where progress is reported; silent unless replaced.
    """

    def __init__(self, recipe: Recipe, host: PluginHost, loaded: LoadedRecipe, run_folder: Path | None = None) -> None:
        self.recipe, self.host, self.loaded = recipe, host, loaded
        self.run_folder = run_folder or recipe.run_folder
        self.progress: Progress = Silent()

    @classmethod
    def load(
        cls,
        recipe: str | os.PathLike[str] | Mapping[str, Any],
        overrides: Sequence[str] = (),
        allow_env: Sequence[str] = (),
    ) -> Framework:
        """Reads and checks a recipe; nothing heavy is imported and no weights are loaded yet.

        Args:
            recipe: path, name of a shipped recipe, or a mapping.
            overrides: ``key.path=value``; later ones win.
            allow_env: environment variables that ``${env:NAME}`` may read.

        Raises:
            RecipeError: with every problem found.
            PluginError: strict mode, and a plugin is broken.
        """
        argument = recipe if isinstance(recipe, Mapping) else Path(recipe)
        loaded = load_recalled(argument, overrides, allow_env)
        host = PluginHost.discover(disabled_plugins(loaded))
        return cls(check_recipe(loaded, host), host, loaded)

    def check(self) -> None:
        """Resolves the recipe's scene too, if it names one, with all its files.

        Raises:
            SceneError: with every problem found.
        """
        if self.recipe.task in ("generate", "insert", "inspect") and self.recipe.scene is not None:
            self._resolved(self._scene_of_recipe())

    def explain(self) -> Mapping[str, Any]:
        """What would run: components, stages, tokens, parameters, memory, licences; without torch."""
        return explain(self.recipe, self.host)

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone with the recipe's adapters, built when first asked for."""
        backbone = build_backbone(self.recipe, self.host)
        if self.recipe.task != "train":
            for name, adapter in self.recipe.adapters.items():
                check_digest(name, Path(adapter.path), adapter.sha256)
                check_facts(name, backbone.load_adapter(Path(adapter.path), name, adapter.weight), self.recipe)
        return backbone

    def generate(
        self,
        scene: SceneLike | None = None,
        *,
        prompt: str | None = None,
        subjects: Sequence[Subject | Mapping[str, Any]] | None = None,
        size: tuple[int, int] | None = None,
        seed: int | None = None,
        images: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        save: bool = False,
        **more: Any,
    ) -> Result:
        """Makes images of a scene.

        Args:
            scene: a ``Scene``, a file, or a mapping; or give its parts by keyword.
            prompt: what is around the subjects (or the whole picture with ``prompt_kind="full"``).
            subjects: in paste order.
            size: width, height in pixels.
            seed: image k uses seed + k; the recipe's ``run.seed`` by default.
            images: how many; the recipe's ``images`` by default.
            callback_on_step_end: ``(framework, step, t, {"latents": (b, l, d)}) -> dict``; may replace the latents.
            save: write images, condition images and inputs into the run folder.
            more: further keys of a scene: ``prompt_kind``, ``background``, ``camera``, ``structure``.

        Raises:
            SceneError: with every problem found; nothing is written.
        """
        parts = {"prompt": prompt, "subjects": subjects, "size": size, **more}
        return self._make(self._scene_of(scene, parts), seed, images, callback_on_step_end, save)

    def insert(
        self,
        scene: SceneLike | None = None,
        *,
        background: Any = None,
        seed: int | None = None,
        images: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        save: bool = False,
        **parts: Any,
    ) -> Result:
        """Puts a scene's subjects into a photograph in one loop; as ``generate`` otherwise.

        Args:
            background: the photograph (file, PIL image or array); the scene's own by default.

        Raises:
            SceneError: no photograph, or any problem of the scene.
        """
        if scene is None and background is not None and any(value is not None for value in parts.values()):
            parts["background"] = background
        found = self._scene_of(scene, parts)
        if background is not None:
            found = found.with_background(background)
        if found.background is None:
            raise SceneError(
                f"{found.origin}: insertion needs a photograph; give the scene a `background`, or background=FILE"
            )
        return self._make(found, seed, images, callback_on_step_end, save, inserting=True)

    def train(self, fresh: bool = False, allow: Sequence[str] = ()) -> TrainingOutcome:
        """Trains to the end of the curriculum, going on where an earlier run of this folder stopped.

        Args:
            fresh: set an earlier run aside (``<run.dir>.1``) and start anew.
            allow: keys in which the recipe may differ from the run that is resumed.

        Raises:
            RunError: the folder holds a run of another recipe; names the differing keys.
            RunInterrupted: a signal came; the state is saved.
        """
        from sigma_framework.training.launch import train_recipe

        return train_recipe(self.recipe, self.host, self.run_folder, fresh, allow, self.progress)

    def evaluate(self) -> Mapping[str, float]:
        """Makes the images that are missing, measures them, writes tables and ``report.html``; returns the means."""
        from sigma_framework.evaluation import plan_evaluation, run_evaluation

        work = plan_evaluation(
            self.recipe,
            self.host,
            self.image_maker,
            self._annotated if self.recipe.annotators else None,
        )
        self.write_record()
        losses = self._validation_losses()
        return {**run_evaluation(work, self.run_folder, self.progress), **losses}

    def inspect(self) -> Mapping[str, float]:
        """Where regions look among the identity images: ``correspondence.csv`` and ``.png``; returns mean shares.

        Raises:
            PluginError: the backbone cannot tell.
        """
        from sigma_framework.inspection import plan_inspection, run_inspection

        scene = None if self.recipe.scene is None else self._scene_of_recipe()
        work = plan_inspection(
            self.recipe,
            self.host,
            scene,
            self._resolved,
            self.image_maker,
        )
        self.write_record()
        return run_inspection(work, self.run_folder, self.progress)

    def build(self) -> Mapping[str, int]:
        """Makes a data set in the run folder's ``shards/``, going on where it was stopped; returns counts."""
        from sigma_framework.dataset_build import plan_build, run_build
        from sigma_framework.run_folder import held

        block = self.recipe.build
        name = block.source or next(iter(self.recipe.datasources), None)
        work = plan_build(self.recipe, self.host, name, block.count)
        self.write_record()
        if block.engine == "array":  # several jobs share the folder
            return run_build(work, self.run_folder, self.progress)
        with held(self.run_folder):
            return run_build(work, self.run_folder, self.progress)

    def run(self, fresh: bool = False, allow: Sequence[str] = ()) -> list[str]:
        """Runs the recipe's task in its run folder; returns lines that say what was made and where."""
        from sigma_framework.tasks import run_task

        return run_task(self, fresh, allow)

    def variant(self, name: str, seed: int | None = None, adapter: Path | None = None) -> Framework:
        """One variant of a sweep as an evaluation of its own, writing below this one's run folder.

        Args:
            name: of the variant.
            seed: in the place of the recipe's; None keeps it.
            adapter: folder of the only adapter; None keeps the recipe's.
        """
        folder = self._variant_folder(name, seed) / ("evaluate" if self.recipe.sweep.train else "")
        return self._beside(evaluation_of(self.loaded, name, seed, adapter), folder)

    def training(self, name: str, seed: int | None = None) -> Framework:
        """One variant of a sweep as a training of its own; see ``variant``."""
        return self._beside(training_of(self.loaded, name, seed), self._variant_folder(name, seed) / "train")

    def _variant_folder(self, name: str, seed: int | None) -> Path:
        return self.run_folder / name / ("" if seed is None else f"seed-{seed}")

    def _beside(self, loaded: LoadedRecipe, folder: Path) -> Framework:
        other = Framework(check_recipe(loaded, self.host), self.host, loaded, folder)
        other.progress = self.progress
        return other

    def _make(
        self,
        scene: Scene,
        seed: int | None,
        images: int | None,
        callback: StepCallback | None,
        save: bool,
        inserting: bool = False,
    ) -> Result:
        """The road from a scene to a result, and to files when they are wanted."""
        from sigma_framework.generation import write_result

        resolved = self._resolved(scene)
        kinds = {subject.control for subject in resolved.subjects}
        controls = {kind: build_control(self.recipe, self.host, kind) for kind in sorted(kinds)}
        encode_subjects(resolved, controls)  # a control that makes no sense is told before weights are loaded
        maker = self.image_maker(controls, inserting)
        first = self.recipe.run.seed if seed is None else seed
        count = self.recipe.images if images is None else images
        seeds = [first + number for number in range(count)]
        on_step = None if callback is None else partial(callback, self)
        result = maker.make(resolved, seeds, on_step, self.progress)
        result = replace(result, warnings=(*scene_warnings(self.recipe, resolved, inserting), *result.warnings))
        if not save:
            return result
        self.write_record()
        return write_result(result, self.run_folder, self.recipe.portable(), self._versions)

    def image_maker(self, controls: Mapping[str, ControlEncoder], inserting: bool = False) -> ImageMaker:
        """The backbone, the sampler and the recipe's numbers, put together for these control encoders."""
        from sigma_framework.generation_plan import plan_generation

        return plan_generation(self.recipe, self.host, self.backbone, controls, inserting)

    def _annotated(self) -> DataSource:
        """What the recipe's annotators make of the source of an evaluation, as shards below the run folder."""
        from sigma_framework.dataset_build import plan_build, run_build
        from sigma_framework.evaluation.annotated import AnnotatedSource

        name = self.recipe.evaluate.source or next(iter(self.recipe.datasources))
        folder = self.run_folder / "annotated"
        if not (folder / "shards" / "manifest.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            run_build(plan_build(self.recipe, self.host, name, None), folder, self.progress)
        return AnnotatedSource(folder / "shards")

    def _validation_losses(self) -> Mapping[str, float]:
        """The adapter's validation loss per stage, where the recipe asks for it."""
        if not self.recipe.evaluate.validation_loss:
            return {}
        from sigma_framework.training.validation import validation_losses

        return validation_losses(self.recipe, self.host, self.progress)

    def _scene_of(self, scene: SceneLike | None, parts: Mapping[str, Any]) -> Scene:
        """The scene that was given, whole or by its parts, or the recipe's."""
        given = {key: value for key, value in parts.items() if value is not None}
        if scene is not None:
            if given:
                raise SceneError(f"found a scene and also {', '.join(sorted(given))}; give one or the other")
            return Scene.load(scene)
        if given:
            subjects = [_as_mapping(one) for one in given.pop("subjects", ())]
            return Scene.load({"version": 1, "subjects": subjects, **given})
        return self._scene_of_recipe()

    def _scene_of_recipe(self) -> Scene:
        if self.recipe.scene is None:
            raise SceneError(f"{self.loaded.label}: no scene; write scene=FILE, e.g. scene=examples/scenes/mixed.yaml")
        scene = Scene.load(self.recipe.scene)
        return scene if self.recipe.background is None else scene.with_background(self.recipe.background)

    def _resolved(self, scene: Scene) -> ResolvedScene:
        return scene.resolve(
            control_specs(self.recipe, self.host), self._size_multiple, default_size=default_size(self.recipe.backbone)
        )

    @property
    def _size_multiple(self) -> int:
        spec = self.recipe.require_backbone().component.spec
        assert isinstance(spec, BackboneSpec)
        return spec.size_multiple

    @property
    def _versions(self) -> dict[str, str]:
        from sigma_framework.run_folder import versions_of

        return versions_of(self.host)

    def write_record(self) -> None:
        """``resolved.yaml`` and ``versions.json`` of this recipe in its run folder."""
        from sigma_framework.run_folder import write_record

        write_record(self.run_folder, self.recipe.plain(self.run_folder), self._versions)


def _as_mapping(subject: Subject | Mapping[str, Any]) -> Mapping[str, Any]:
    """A subject as a scene document would say it."""
    if not isinstance(subject, Subject):
        return subject
    return {field.name: getattr(subject, field.name) for field in fields(subject)}
