"""What the blocks of a recipe say about one another, and what each task cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sigma_framework.errors import PluginError, Problem, listed, nearest_name
from sigma_framework.plugin_host import PluginHost
from sigma_framework.recipe.records import Recipe
from sigma_framework.specs import AnnotatorSpec, DataSourceSpec

_BACKBONE_TASKS = frozenset({"train", "generate", "insert", "evaluate", "sweep", "inspect"})
_SAMPLER_TASKS = frozenset({"generate", "insert", "evaluate", "sweep", "inspect"})
_SOURCE_TASKS = frozenset({"train", "evaluate", "sweep"})


def disagreements(recipe: Recipe, host: PluginHost) -> list[Problem]:
    """Every problem of a recipe whose blocks are each right."""
    checks: Sequence[Callable[[Recipe, PluginHost], Iterable[Problem]]] = (
        _needs_of_task,
        _training,
        _granularities,
        _stages,
        _optimizer,
        _evaluation,
        _inspection,
        _building,
    )
    return [problem for check in checks for problem in check(recipe, host)]


def _needs_of_task(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    if recipe.task in _BACKBONE_TASKS and recipe.backbone is None:
        yield _missing("backbone", recipe, f"one of: {listed(host.specs('backbone'))}")
    training = recipe.task == "train" and recipe.objective.name == "adapter"  # draws pictures with it
    if (recipe.task in _SAMPLER_TASKS or training) and recipe.sampler is None:
        yield _missing("sampler", recipe, f"one of: {listed(host.specs('sampler'))}")
    if recipe.task in _SOURCE_TASKS and not recipe.datasources:
        yield _missing("datasources", recipe, f"one of: {listed(host.specs('datasource'))}")
    if recipe.task == "inspect" and recipe.scene is None and not recipe.datasources:
        yield _missing("scene", recipe, "a scene file, or datasources to take scenes from")
    if recipe.task == "evaluate" and not recipe.metrics:
        yield _missing("metrics", recipe, f"one of: {listed(host.specs('metric'))}")
    if recipe.task == "build" and not recipe.annotators:
        yield _missing("annotators", recipe, f"one of: {listed(host.specs('annotator'))}")
    if recipe.task == "sweep" and not recipe.sweep.variants:
        yield Problem("sweep.variants", "missing, expected at least one variant for the task sweep")
    if recipe.task == "sweep" and recipe.sweep.train:
        yield from _trained_sweep(recipe)


def _trained_sweep(recipe: Recipe) -> Iterator[Problem]:
    """Each variant makes an adapter, in this process: a launcher would start the whole sweep in each of its own."""
    if recipe.objective.name != "adapter":
        yield Problem("train.objective", f'found "{recipe.objective.name}", expected adapter for sweep.train')
    if recipe.train.devices * recipe.train.num_nodes > 1:
        what = (
            f"found {recipe.train.devices} devices on {recipe.train.num_nodes} machines, expected one for sweep.train"
        )
        yield Problem("train.devices", what, "write train.devices=1 and train.num_nodes=1")


def _missing(key: str, recipe: Recipe, remedy: str) -> Problem:
    return Problem(key, f"missing, expected for the task {recipe.task}", remedy)


def _training(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    if recipe.task != "train":
        return
    train = recipe.train
    if not recipe.stages:
        yield Problem("stages", "missing, expected at least one stage for the task train")
    if recipe.objective.name == "adapter" and not recipe.granularities:
        yield Problem("granularities", "missing, expected at least one for the objective adapter")
    parts = train.devices * train.num_nodes * train.accumulate
    if train.batch_size % parts:
        shares = f"{train.devices * train.num_nodes} devices"
        shares += f" in {train.accumulate} parts each" if train.accumulate > 1 else ""
        what = f"found {train.batch_size}, which cannot be split over {shares}"
        yield Problem("train.batch_size", what, f"use a multiple of {parts}")


def _granularities(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    plain = [name for name, block in recipe.granularities.items() if not block.mixed]
    for name, block in recipe.granularities.items():
        where = f"granularities.{name}"
        if block.mixed and block.control is not None:
            yield Problem(where, "found both control and mixed, expected one of them", "remove one")
        elif block.mixed and not plain:
            yield Problem(where, "found mixed, expected another granularity to draw from", "add one with a control")
        elif not block.mixed and block.control is None:
            yield Problem(f"{where}.control", "missing, expected the name of a control or mixed: true")
        elif block.control is not None:
            yield from _control_problem(recipe, host, f"{where}.control", block.control)
    if recipe.granularities and not any(block.weight for block in recipe.granularities.values()):
        yield Problem("granularities", "found only weights of 0, expected one above 0", "give one a weight")


def _control_problem(recipe: Recipe, host: PluginHost, where: str, control: str) -> Iterator[Problem]:
    """Nothing when ``control`` names a block under ``controls`` or a registered control."""
    if control in recipe.controls:
        return
    try:
        host.resolve("control", control)
    except PluginError as error:
        near = nearest_name(control, recipe.controls)
        yield Problem(where, error.message, near if near not in error.message else "")


def _stages(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    for name, stage in recipe.stages.items():
        where = f"stages.{name}"
        sources = recipe.datasources if stage.datasources is None else dict.fromkeys(stage.datasources)
        yield from _unknown_names(f"{where}.datasources", stage.datasources or (), recipe.datasources, "datasources")
        specs = [recipe.datasources[source].component.spec for source in sources if source in recipe.datasources]
        limits = [spec for spec in specs if isinstance(spec, DataSourceSpec)]
        most, fewest = stage.subjects.max, stage.subjects.min
        if limits and not any(
            spec.max_subjects >= fewest and (most is None or spec.min_subjects <= most) for spec in limits
        ):
            what = f"found {fewest} to {most or 'any number of'} subjects, which none of its data sources gives"
            given = ", ".join(f"{spec.name}: {spec.min_subjects} to {spec.max_subjects}" for spec in limits)
            yield Problem(f"{where}.subjects", what, f"given: {given}")
        if stage.datasources == ():
            yield Problem(
                f"{where}.datasources", "found an empty list, expected at least one name", "leave it out for all"
            )


def _optimizer(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    """Prodigy's learning rate of 1.0 would destroy an AdamW run."""
    if recipe.train.optimizer.type != "prodigy" and ("train", "optimizer", "lr") not in recipe.origins:
        yield Problem(
            "train.optimizer.lr", f"missing, expected a number for {recipe.train.optimizer.type}", "e.g. 0.0001"
        )


def _evaluation(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    block = recipe.evaluate
    # A build may give the shared `source` another meaning, e.g. that of a folder to which its data source refers.
    if block.source is not None and recipe.task != "build":
        yield from _unknown_names("evaluate.source", (block.source,), recipe.datasources, "datasources")
    yield from _unknown_names("evaluate.also", block.also, recipe.datasources, "datasources")
    if block.control is not None and block.control not in recipe.granularities:
        yield from _control_problem(recipe, host, "evaluate.control", block.control)
    name = block.source if block.source is not None else next(iter(recipe.datasources), None)
    source = recipe.datasources.get(name) if name is not None else None
    if recipe.task == "evaluate" and block.holdout is not None and source is not None:
        taken = getattr(source.config, "holdout", None)
        if taken != block.holdout:
            what = f'found "{block.holdout}", but datasources.{name} holds out {taken}'
            yield Problem("evaluate.holdout", what, f"write datasources.{name}.holdout: ${{evaluate.holdout}}")
    if recipe.task == "evaluate" and recipe.annotators:
        if block.also:
            what = "found further sources, expected none where annotators make the examples"
            yield Problem("evaluate.also", what, "write evaluate.also: {}")
        if recipe.build.engine == "array":
            yield Problem("build.engine", 'found "array", expected local or ray for the task evaluate')
    if recipe.task == "evaluate" and block.validation_loss:
        if len(recipe.adapters) != 1:
            what = f"found {len(recipe.adapters)}, expected one for evaluate.validation_loss"
            yield Problem("adapters", what, "name one adapter, or write evaluate.validation_loss: false")
        for key, there in (("stages", recipe.stages), ("granularities", recipe.granularities)):
            if not there:
                what = "missing, expected for evaluate.validation_loss"
                yield Problem(key, what, "extend the recipe that trained the adapter")


def _inspection(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    if recipe.task == "inspect":
        yield from _control_problem(recipe, host, "inspect.control", recipe.inspect.control)


def _building(recipe: Recipe, host: PluginHost) -> Iterator[Problem]:
    if recipe.build.source is not None:
        yield from _unknown_names("build.source", (recipe.build.source,), recipe.datasources, "datasources")
    order = recipe.build.stages if recipe.build.stages is not None else tuple(recipe.annotators)
    yield from _unknown_names("build.stages", order, recipe.annotators, "annotators")
    specs = [(name, recipe.annotators[name].component.spec) for name in order if name in recipe.annotators]
    stages = [(name, spec) for name, spec in specs if isinstance(spec, AnnotatorSpec)]
    written: set[str] = set()
    for index, (name, spec) in enumerate(stages):
        for later, giver in stages[index + 1 :]:
            if early := sorted((spec.reads & giver.writes) - written - spec.writes):
                what = f"found '{name}' before '{later}', but it reads {listed(early)}, which '{later}' writes"
                yield Problem("build.stages", what, f"put '{later}' first")
        written |= spec.writes


def _unknown_names(where: str, names: Iterable[str], known: Mapping[str, object], block: str) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            remedy = nearest_name(name, known) or f"known: {listed(known)}"
            yield Problem(where, f'found "{name}", expected a name under {block}', remedy)
