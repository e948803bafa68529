"""From a recipe to its build."""

from __future__ import annotations

from sigma_framework.dataset_build.build import Build, Stage
from sigma_framework.errors import DataError
from sigma_framework.plugin_host import PluginHost
from sigma_framework.protocols import DataSource
from sigma_framework.recipe import Recipe
from sigma_framework.recipe.build import plan_annotators, source_facts
from sigma_framework.shards import Encoding


def plan_build(recipe: Recipe, host: PluginHost, name: str | None, count: int | None) -> Build:
    """The recipe's stages over the records of a source.

    Args:
        recipe: with annotators.
        host: its plugins.
        name: of the block under ``datasources``; None where the first stage makes the records.
        count: records to start with; None takes all of the source.

    Raises:
        DataError: all of a source are asked for, and there is none.
    """
    block = recipe.build
    given = recipe.datasources[name] if name is not None else None
    source: DataSource | None = None if given is None else host.make(given.component, given.config)
    if source is None and count is None:
        raise DataError("build.count: found null (all of the source), and there is no source; write a number")
    return Build(
        source=source,
        source_facts={} if name is None or given is None else source_facts(recipe, name),
        stages=[Stage(name=name, make=make, facts=facts) for name, make, facts in plan_annotators(recipe, host)],
        count=count if count is not None else len(source or ()),
        seed=recipe.run.seed,
        batch=block.batch,
        workers=block.workers,
        worker_gpus=block.worker_gpus,
        engine=block.engine,
        per_shard=block.per_shard,
        encoding=Encoding(target=block.target, identities=block.identities, quality=block.quality),
    )
