"""``recipes/dreambooth_flux.yaml`` with small models in the place of the paper's: annotated, then scored."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigma_framework import Framework, Scene, ShardSet

RECIPE = Path(__file__).parents[4] / "recipes" / "dreambooth_flux.yaml"


def test_photographs_are_annotated_and_scored(folders: Path, server: Any, picture: np.ndarray, tmp_path: Path) -> None:
    server.script = lambda body: (200, "A grey wall.")
    photographs = tmp_path / "photographs" / "red_thing"
    photographs.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.roll(picture, 2 * number, axis=1)).save(photographs / f"{number:02d}.png")
    finder = {"detector": folders / "detector", "masks": folders / "masks", "box_threshold": 0.0, "text_threshold": 0.0}
    options = {f"annotators.segments.finder.{name}": value for name, value in finder.items()}
    options |= {f"annotators.references.segmenter_options.finder.{name}": value for name, value in finder.items()}
    options |= {"annotators.depth.weights": folders / "metric", "annotators.prompts.server": server.url}
    options |= {"annotators.filter.min_area_share": 0.0, "annotators.references.identity_size": 64}
    options |= {"datasources.main.image_size": 96, "datasources.main.reference_size": 96}
    options |= {"conditioning.identity_size": 64, "backbone.weights": "pocket", "adapters.main.path": "pocket"}
    options |= {"sampler.guidance": "null", "metrics.psnr.type": "psnr", "evaluate.made_by": "target"}
    options |= {
        f"metrics.{name}": "null" for name in ("dino_i", "siglip_i", "siglip_t", "depth_mse", "clip_iqa", "musiq")
    }
    options |= {"source": photographs.parent, "run.dir": tmp_path / "run"}
    Framework.load(RECIPE, [f"{key}={value}" for key, value in options.items()]).run()
    document = ShardSet(tmp_path / "run" / "annotated" / "shards").sample(0).document
    assert document.depth is not None
    assert {"captioner", "detector", "masks", "depth"} <= set(document.provenance["models"])
    scene = Scene.load(tmp_path / "run" / "images" / "scenes" / "0000.yaml")
    assert scene.prompt == "A grey wall."
    assert scene.subjects[0].control["type"] == "depth"
    with (tmp_path / "run" / "results.csv").open() as file:
        assert [(row["subjects"], row["psnr"]) for row in csv.DictReader(file)] == [("1", "inf")] * 2
    assert "Table 4 of the paper" in (tmp_path / "run" / "results.md").read_text()
