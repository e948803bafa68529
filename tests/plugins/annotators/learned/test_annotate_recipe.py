"""``recipes/annotate.yaml`` with models: AnyInsertion gets metric depth and boxes, keeps the rest, and trains."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sigma_framework import Framework, ShardSet
from sigma_framework.shards import check_set

RECIPES = Path(__file__).parents[4] / "recipes"
SIDE = 96


def stored(pixels: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def row(number: int) -> dict[str, Any]:
    """A red block on grey; what is outside the mask is red too, so that a segmenter would find more."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[30:70, 20 + number : 60 + number] = 255
    picture = np.full((SIDE, SIDE, 3), 150, np.uint8)
    picture[20:80, 10:80] = (200, 30, 30)
    reference = np.full((40, 40, 3), (30, 30, 200), np.uint8)
    return {
        "id": f"train/object/{number}", "split": "train", "category": "object", "main_label": "block",
        "ref_image": stored(reference), "ref_mask": stored(np.full((40, 40), 255, np.uint8)),
        "tar_image": stored(picture), "tar_mask": stored(mask),
    }  # fmt: skip


@pytest.fixture(scope="module")
def annotated(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("annotated")
    parquet.write_table(pa.Table.from_pylist([row(number) for number in range(3)]), root / "train.parquet")
    overrides = [
        "datasources.pictures.type=any_insertion", f"datasources.pictures.path={root / 'train.parquet'}",
        f"datasources.pictures.image_size={SIDE}", "datasources.pictures.identity_size=64",
        "annotators.segments.type=segmenter", f"annotators.segments.finder.detector={folders / 'detector'}",
        f"annotators.segments.finder.masks={folders / 'masks'}",
        "annotators.depth.type=depth", f"annotators.depth.weights={folders / 'metric'}",
        "annotators.depth.saturated=1.0", "annotators.boxes.type=box_fitter", "annotators.boxes.method=minimal",
        "build.target=png", "build.identities=png", f"run.dir={root / 'run'}",
    ]  # fmt: skip
    Framework.load(RECIPES / "annotate.yaml", overrides).run()
    return root / "run" / "shards"


def test_what_is_there_is_kept_and_what_is_missing_added(annotated: Path) -> None:
    assert check_set(annotated).problems == ()
    shards = ShardSet(annotated)
    assert len(shards) == 3, "all of the table"
    for number in range(3):
        sample = shards.sample(number)
        (subject,) = sample.document.subjects
        assert subject.box2d == (20 + number, 30, 60 + number, 70)
        assert sample.masks[0].sum() == 40 * 40, "the table's own mask"
        assert sample.identities[0][32, 32].tolist() == [30, 30, 200], "the table's own reference"
        assert subject.caption == "a block"
        assert sample.depth is not None
        assert (sample.depth[sample.masks[0]] > 0).all()
        assert subject.box3d is not None
        assert sample.document.provenance["models"] == {"depth": "metric"}, "the segmenter found nothing: it kept masks"


@pytest.mark.slow
def test_it_is_trained_on_with_depth_and_oriented_boxes(annotated: Path, tmp_path: Path) -> None:
    overrides = [
        "datasources.main.type=sigma_set", f"datasources.main.path={annotated}",
        "granularities.boxes2d=null", "stages.s1.steps=2", "stages.s2=null", "stages.s3=null", "train.batch_size=1",
        "train.lora.rank=2", "train.lora.alpha=2", "train.validation_scenes=1", "train.grid_scenes=1",
        "train.grid_steps=1", f"run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    Framework.load(RECIPES / "curriculum.yaml", overrides).run()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(line["loss"]) for line in csv.DictReader(file) if line["loss"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
