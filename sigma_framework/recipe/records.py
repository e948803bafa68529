"""A checked recipe: typed blocks, resolved components, and a plain form to print, store and embed."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigma_framework.provenance import Component
from sigma_framework.recipe.origins import KeyPath, Origin
from sigma_framework.recipe.schema import (
    AdapterBlock,
    BuildBlock,
    ConditioningBlock,
    EvaluateBlock,
    GranularityBlock,
    InspectBlock,
    PluginsBlock,
    RunBlock,
    SamplerSettings,
    SweepBlock,
    Task,
)
from sigma_framework.recipe.training_schema import StageBlock, TrainBlock
from sigma_framework.specs import ObjectiveSpec


@dataclass(frozen=True, kw_only=True)
class ComponentBlock:
    """``{type, ...options}``: a component and its checked options."""

    reference: str
    """What the recipe writes as ``type``."""
    component: Component
    """What it resolved to."""
    config: Any
    """An instance of the spec's config."""


@dataclass(frozen=True, kw_only=True)
class DataSourceBlock:
    """A component block with the core's own key of a data source."""

    reference: str
    """As in ``ComponentBlock``."""
    component: Component
    """As in ``ComponentBlock``."""
    config: Any
    """As in ``ComponentBlock``."""
    weight: float
    """Relative share of examples drawn from it."""


@dataclass(frozen=True, kw_only=True)
class SamplerBlock:
    """A component block with the core's own keys of a sampler."""

    reference: str
    """As in ``ComponentBlock``."""
    component: Component
    """As in ``ComponentBlock``."""
    config: Any
    """As in ``ComponentBlock``."""
    settings: SamplerSettings
    """Steps, guidance, classifier-free guidance and negative prompt."""

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return self.settings.steps

    @property
    def guidance(self) -> float | None:
        """Distilled guidance."""
        return self.settings.guidance

    @property
    def true_cfg(self) -> float:
        """Classifier-free guidance scale."""
        return self.settings.true_cfg

    @property
    def negative_prompt(self) -> str:
        """Prompt to move away from."""
        return self.settings.negative_prompt


@dataclass(frozen=True, kw_only=True)
class ObjectiveBlock:
    """What training minimises."""

    name: str
    """``adapter`` or the name of an objective that the backbone or one of the metrics brings."""
    spec: ObjectiveSpec | None
    """The component's record; None for ``adapter``."""
    options: Any
    """An instance of the spec's options; None for ``adapter``."""
    owner: ComponentBlock | None = None
    """The component that brings it; None for ``adapter``."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a task needs to know, checked."""

    name: str
    """The file's name without ``.yaml``."""
    path: Path | None
    """The file; None for a mapping."""
    task: Task
    """What a run does."""
    run: RunBlock
    """Run folder and seed."""
    backbone: ComponentBlock | None
    """The base model; None only where the task needs none."""
    adapters: Mapping[str, AdapterBlock]
    """Weights put onto the backbone, paths absolute; a bare word stays one where there is no backbone."""
    controls: Mapping[str, ComponentBlock]
    """Controls with options; registered ones that are not here work with their defaults."""
    granularities: Mapping[str, GranularityBlock]
    """What training draws controls from."""
    conditioning: ConditioningBlock
    """Condition images and prompts."""
    datasources: Mapping[str, DataSourceBlock]
    """Sources of examples."""
    stages: Mapping[str, StageBlock]
    """The curriculum, in order."""
    train: TrainBlock
    """How training goes."""
    objective: ObjectiveBlock
    """What training minimises."""
    sampler: SamplerBlock | None
    """The sampling loop."""
    scene: Path | None
    """Scene document, absolute."""
    background: Path | None
    """Photograph to insert into, absolute."""
    images: int
    """Images to make."""
    metrics: Mapping[str, ComponentBlock]
    """Measures."""
    annotators: Mapping[str, ComponentBlock]
    """Stages of data making."""
    evaluate: EvaluateBlock
    """What is evaluated."""
    build: BuildBlock
    """What is built."""
    sweep: SweepBlock
    """Variants."""
    inspect: InspectBlock
    """What is looked at."""
    plugins: PluginsBlock
    """Plugins that are left out."""
    files: Mapping[str, Path]
    """Every path the recipe names, absolute, by key path."""
    origins: Mapping[KeyPath, Origin]
    """Where each value was written; what is missing is a default."""
    resolved: Mapping[str, Any] = field(repr=False)
    """All values with defaults, as written: relative paths stay relative, secrets stay ``${env:NAME}``."""

    @property
    def run_folder(self) -> Path:
        """Where the run writes: ``run.dir``, or ``runs/<recipe name>``; relative to the current folder."""
        return Path(self.run.dir) if self.run.dir else Path("runs") / self.name

    def plain(self, relative_to: Path | None = None) -> dict[str, Any]:
        """The resolved recipe as plain data that can be written as YAML or JSON and loaded again.

        Args:
            relative_to: the folder that the data will be written into, so that its relative paths still lead to the
                same files; None keeps paths as they were written.
        """
        plain = copy.deepcopy(dict(self.resolved))
        if relative_to is not None:
            for key, file in self.files.items():
                _replace_path(plain, key.split("."), _relative(file, relative_to))
        return plain

    def portable(self) -> dict[str, Any]:
        """The resolved recipe for a picture that travels: no scene, no run folder, of absolute paths the name alone."""
        plain = self.plain()
        for key, file in self.files.items():
            if file.is_absolute() and key not in ("scene", "background"):
                _replace_path(plain, key.split("."), file.name)
        for key in ("scene", "background"):
            plain.pop(key, None)
        plain.get("run", {}).pop("dir", None)
        portable: dict[str, Any] = _without_places(plain)
        return portable

    def require_backbone(self) -> ComponentBlock:
        """The backbone of a task that cannot do without; ``check_recipe`` has made sure of it."""
        assert self.backbone is not None
        return self.backbone

    def require_sampler(self) -> SamplerBlock:
        """The sampler of a task that cannot do without; ``check_recipe`` has made sure of it."""
        assert self.sampler is not None
        return self.sampler

    def control_block(self, control: str) -> ComponentBlock | None:
        """The block that gives a registered control its options: the one of its name, else the first of its type."""
        own = self.controls.get(control)
        if own is not None and own.component.name == control:
            return own
        return next((block for block in self.controls.values() if block.component.name == control), None)


def _relative(file: Path, folder: Path) -> str:
    """``file`` seen from ``folder``; starts with a dot, so that it is read as a path and not as a name."""
    try:
        path = Path(os.path.relpath(file, folder.absolute())).as_posix()
    except ValueError:  # another drive
        return str(file)
    return path if path.startswith("..") else f"./{path}"


def _replace_path(plain: Any, keys: list[str], path: str) -> None:
    """Puts a path at a key path, unless its text comes from the environment."""
    key: Any
    while True:
        if isinstance(plain, list):
            key, keys = int(keys[0]), keys[1:]
        else:  # the keys of a sweep's variant hold dots themselves
            length = next(n for n in range(len(keys), 0, -1) if ".".join(keys[:n]) in plain)
            key, keys = ".".join(keys[:length]), keys[length:]
        if not keys:
            break
        plain = plain[key]
    if "${env:" not in str(plain[key]):
        plain[key] = path


def _without_places(value: Any) -> Any:
    """Plain data in which an absolute path is only its last name, e.g. a folder of weights."""
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
