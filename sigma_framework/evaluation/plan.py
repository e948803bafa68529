"""From a recipe to its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sigma_framework.evaluation.making import Making
from sigma_framework.evaluation.report import Reporting
from sigma_framework.evaluation.run import Evaluation
from sigma_framework.evaluation.scenes import ControlDraw, SceneGroup
from sigma_framework.evaluation.scoring import Scoring
from sigma_framework.evaluation.summary import read_summary
from sigma_framework.generation import ImageMaker
from sigma_framework.plugin_host import PluginHost
from sigma_framework.protocols import ControlEncoder, DataSource
from sigma_framework.recipe import Recipe
from sigma_framework.recipe.backbone_answers import image_sizes
from sigma_framework.recipe.build import (
    build_control,
    build_datasources,
    build_metrics,
    build_named_control,
    control_specs,
)
from sigma_framework.run_folder import fingerprint, versions_of
from sigma_framework.specs import BackboneSpec, MetricSpec

MakerOf = Callable[[Mapping[str, ControlEncoder]], ImageMaker]


def plan_evaluation(
    recipe: Recipe, host: PluginHost, maker: MakerOf, annotated: Callable[[], DataSource] | None = None
) -> Evaluation:
    """What the recipe evaluates; its metrics are made, so that what they lack is told before images are made.

    Args:
        recipe: of the task evaluate.
        host: its plugins.
        maker: loads what makes images, given encoders by registered control type.
        annotated: gives the examples in the place of the recipe's first source, which annotators have worked on.

    Raises:
        WeightsError: a metric's model is not there.
        DataError: an evaluation to set beside this one is not there.
    """
    block = recipe.evaluate
    better = {}
    for name, metric in recipe.metrics.items():
        spec = metric.component.spec
        better[name] = spec.better if isinstance(spec, MetricSpec) else "higher"
    scoring = Scoring(
        metrics=build_metrics(recipe, host),
        better=better,
        about={name: metric.component.spec.summary for name, metric in recipe.metrics.items()},
        control_specs=control_specs(recipe, host),
        encoder=lambda control: build_control(recipe, host, control),
        identity_size=recipe.conditioning.identity_size,
        identity_padding=recipe.conditioning.identity_padding,
    )
    reporting = Reporting(paper_table=block.paper_table, beside=tuple(map(read_summary, block.beside)), note=block.note)
    making = None if block.images is not None else _making(recipe, host, maker, annotated)
    return Evaluation(making=making, scoring=scoring, reporting=reporting, images=block.images, system=block.system)


def _making(recipe: Recipe, host: PluginHost, maker: MakerOf, annotated: Callable[[], DataSource] | None) -> Making:
    block = recipe.evaluate
    first = block.source or next(iter(recipe.datasources))
    wanted: dict[str, int | None] = {first: block.scenes}
    if annotated is None:
        wanted |= {name: count for name, count in block.also.items() if name != first}
    sources = {first: annotated()} if annotated is not None else build_datasources(recipe, host)
    named, per_subject = _drawn_controls(recipe)
    controls = dict(build_named_control(recipe, host, name) for name in named)
    spec = recipe.require_backbone().component.spec
    assert isinstance(spec, BackboneSpec)
    return Making(
        maker=lambda: maker(controls),
        controls=controls,
        control_specs=control_specs(recipe, host),
        size_multiple=spec.size_multiple,
        made_for=image_sizes(recipe.require_backbone()) if block.made_by == "model" else None,
        groups=[SceneGroup(name=name, source=sources[name], scenes=count) for name, count in wanted.items()],
        subjects=block.subjects,
        draw=ControlDraw(controls=tuple(controls), per_subject=per_subject),
        seed=recipe.run.seed,
        batch_size=block.batch_size,
        shuffle_identities=block.shuffle_identities,
        prompt=block.prompt,
        whole_depth=block.structure == "scene",
        made_by=block.made_by,
        system=_system(recipe),
        made_with=fingerprint(recipe.plain()),
        facts=versions_of(host),
    )


def _drawn_controls(recipe: Recipe) -> tuple[list[str], bool]:
    """What an evaluation draws controls from, and whether for each subject anew (a mixed granularity)."""
    named = recipe.evaluate.control
    granularities = recipe.granularities
    if named is not None and not (named in granularities and granularities[named].mixed):
        return [named], False
    # Nothing named: as in training. Mixed: from all the others.
    return [block.control for block in granularities.values() if block.control and block.weight > 0], bool(named)


def _system(recipe: Recipe) -> str:
    """What the row is called, e.g. ``flux_kontext (pocket)``."""
    block = recipe.evaluate
    if block.made_by == "nobody":
        return ""  # whoever fills the folder says so
    backbone = recipe.require_backbone()
    weights = getattr(backbone.config, "weights", None)
    name = f"{backbone.component.name} ({Path(weights).name})" if isinstance(weights, str) else backbone.component.name
    name = "ground truth" if block.made_by == "target" else name
    return f"{name}, identities shuffled" if block.shuffle_identities else name
