"""``recipes/sigma_set.yaml`` with small models in the place of the paper's: every stage, one after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sigma_framework import Framework, ShardSet
from sigma_framework.shards import check_set

RECIPE = Path(__file__).parents[4] / "recipes" / "sigma_set.yaml"


def test_the_whole_graph_runs(folders: Path, server: Any, tmp_path: Path) -> None:
    finder = {"detector": folders / "detector", "masks": folders / "masks", "box_threshold": 0.0, "text_threshold": 0.0}
    small: dict[str, Any] = {
        "prompts": {"server": server.url, "weights": "tiny", "max_subjects": 4},
        "images": {"weights": folders / "kontext", "width": 64, "height": 64, "steps": 1, "guidance": "null"},
        "segments": {f"finder.{name}": value for name, value in finder.items()},
        # A random model finds everything everywhere: one subject of each picture is left.
        "filter": {"min_area_share": 0.0, "max_area_share": 1.0, "min_subjects": 1},
        "depth": {"weights": folders / "metric"},
        "identities": {"weights": folders / "kontext", "size": 32, "identity_size": 32, "steps": 1}
        | {f"finder.{name}": value for name, value in finder.items()},
    }
    small["again"] = small["filter"]
    overrides = [f"annotators.{stage}.{key}={value}" for stage, one in small.items() for key, value in one.items()]
    Framework.load(RECIPE, [*overrides, "build.count=3", "build.batch=2", f"run.dir={tmp_path / 'run'}"]).run()
    shards = tmp_path / "run" / "shards"
    assert check_set(shards).problems == ()
    manifest = json.loads((shards / "manifest.json").read_text())
    stages = [stage["name"] for stage in manifest["stages"]]
    assert stages == ["prompts", "unique", "images", "segments", "filter", "depth", "identities", "again", "boxes"]
    found = ShardSet(shards)
    assert len(found) == 3
    document = found.sample(0).document
    assert set(document.provenance["models"]) == {
        "prompt_writer", "text_to_image", "detector", "masks", "depth", "reposer", "reposer_detector", "reposer_masks",
    }  # fmt: skip
    assert document.depth is not None
    assert document.licence == "FLUX.1 [dev] Non-Commercial License"
    assert document.subjects[0].caption.startswith("a thing of kind")
