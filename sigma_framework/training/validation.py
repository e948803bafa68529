"""The fixed validation loss of a trained adapter, to set two adapters side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sigma_framework.plugin_host import PluginHost
from sigma_framework.progress import Progress
from sigma_framework.recipe import Recipe
from sigma_framework.recipe.build import build_datasources
from sigma_framework.training.data_module import SigmaDataModule
from sigma_framework.training.launch import objective_of, plan_of
from sigma_framework.training.lightning_module import SigmaModule


def validation_losses(recipe: Recipe, host: PluginHost, progress: Progress) -> Mapping[str, float]:
    """What training with this recipe would tell of its only adapter at the end of each stage.

    The scenes, times and noise are those of ``train.validation_scenes`` and ``run.seed``, so that a run's own adapter
    gets the number of its last validation again.

    Args:
        recipe: with one adapter, stages and granularities.
        host: the plugins it was checked against.
        progress: where progress is reported.

    Returns:
        ``validation_loss_<stage>`` per stage that has validation scenes.

    Raises:
        WeightsError: the adapter cannot be loaded.
    """
    (adapter,) = recipe.adapters.values()
    sources = build_datasources(recipe, host)
    plan = plan_of(recipe, sources)
    objective = objective_of(replace(recipe, train=replace(recipe.train, init_from=Path(adapter.path))), host)
    module = SigmaModule(objective, plan, recipe.train.optimizer, [stage.optimizer for stage in recipe.stages.values()])
    data = SigmaDataModule(sources, plan, first_step=0, workers=0)
    losses = {}
    progress.begin("validation", len(plan.stages))
    for stage, held in zip(plan.stages, plan.validation, strict=True):
        if held:
            loss = module.validation_loss(data.fixed(held), recipe.train.validation_batch_size)
            losses[f"validation_loss_{stage.name}"] = loss
        progress.advance(facts=stage.name)
    progress.finish()
    return losses
