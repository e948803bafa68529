"""AnyInsertion and MUSAR-Gen in their real columns: read, annotated by the shipped recipe, trained on."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sigma_framework import DataError, Framework, RecipeError, ShardSet
from sigma_framework.shards import check_set

RECIPES = Path(__file__).parents[2] / "recipes"
SIDE = 96
Picture = dict[str, Any]


def stored(pixels: np.ndarray, form: str = "PNG") -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form, **({"quality": 95} if form == "JPEG" else {}))
    return {"bytes": buffer.getvalue(), "path": None}


def block(colour: tuple[int, int, int], box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    pixels = np.full((*size, 3), 150, np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = colour
    return pixels


def insertion_row(number: int, label: str, *left_out: str) -> dict[str, Any]:
    """A red block in a picture and on a reference, each with its mask."""
    box, whole = (30 + 4 * number, 40, 80 + 4 * number, 100), (20, 20, 70, 70)
    masks = [block((255,) * 3, place, size) for place, size in ((box, (120, 160)), (whole, (90, 90)))]
    row = {
        "id": f"train/object/{number}", "split": "train", "category": "object", label: "red_block",
        "ref_image": stored(block((200, 30, 30), whole, (90, 90))),
        "ref_mask": stored((masks[1][..., 0] == 255).astype(np.uint8) * 255),
        "tar_image": stored(block((200, 30, 30), box, (120, 160)), "JPEG"),
        "tar_mask": stored((masks[0][..., 0] == 255).astype(np.uint8) * 255),
    }  # fmt: skip
    return {name: value for name, value in row.items() if name not in left_out}


def pair_row(number: int) -> dict[str, Any]:
    """Two blocks before grey, with a reference picture and a caption each."""
    target = block((200, 30, 30), (20, 40, 55, 90 + number), (120, 120))
    target[30:80, 70:105] = (35, 90, 225)
    return {
        "cond_img_0": stored(block((200, 30, 30), (20, 20, 60, 60), (80, 80)), "JPEG"),
        "cond_img_1": stored(block((35, 90, 225), (20, 20, 60, 60), (80, 80)), "JPEG"),
        "tgt_img": stored(target, "JPEG"),
        "cond_prompt_0": "a red block",
        "cond_prompt_1": "a blue block",
        "prompt": "An undivided, seamless, and harmonious picture with two objects. in the grey studio scene, "
        "a red block and a blue block are placed together.",
    }


def cut_off(picture: Picture) -> Picture:
    return {**picture, "bytes": picture["bytes"][: len(picture["bytes"]) // 2]}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=2)


def annotate(kind: str, folder: Path, run: Path, count: int, *more: str) -> ShardSet:
    overrides = [
        f"datasources.pictures.type={kind}",
        f"datasources.pictures.path={folder}",
        f"datasources.pictures.image_size={SIDE}",
        "datasources.pictures.identity_size=64",
        "datasources.pictures.max_bad=0.5",
        f"build.count={count}",
        f"run.dir={run}",
        *more,
    ]
    Framework.load(RECIPES / "annotate.yaml", overrides).run()
    assert check_set(run / "shards").problems == ()
    return ShardSet(run / "shards")


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``any``: both label columns, one file without split and category, a truncated picture; ``pairs``: MUSAR-Gen."""
    root = tmp_path_factory.mktemp("sets")
    damaged = insertion_row(2, "label")
    write(root / "any", "train-0.parquet", [insertion_row(0, "label"), insertion_row(1, "label"), {
        **damaged, "tar_image": cut_off(damaged["tar_image"])}])  # fmt: skip
    write(root / "any", "train-1.parquet", [insertion_row(k, "main_label", "split", "category") for k in (3, 4)])
    pairs = [pair_row(k) for k in range(4)]
    pairs[1]["cond_img_1"] = cut_off(pairs[1]["cond_img_1"])
    write(root / "pairs", "train-0.parquet", pairs)
    annotate("any_insertion", root / "any", root / "any-run", 5)
    annotate("musar_gen", root / "pairs", root / "pairs-run", 4)
    return root


def test_insertion_keeps_its_masks_and_references_and_gets_prompts(annotated: Path) -> None:
    found = ShardSet(annotated / "any-run" / "shards")
    keys = [found.sample(k).document.key for k in range(len(found))]
    assert len(found) == 5
    assert "train/object/2" not in keys, "the truncated one was replaced by the next"
    sample = found.sample(0)
    assert sample.document.subjects[0].caption == "a red block"
    assert sample.document.prompts.full == "a photograph of a red block"
    shown = sample.target[sample.masks[0]]
    assert np.abs(shown.mean(axis=0) - (200, 30, 30)).max() < 12, "the mask is the table's own"
    assert sample.identities[0][32, 32].argmax() == 0
    assert (sample.identities[0][0] > 240).all()


def test_pairs_get_masks_that_belong_to_their_captions(annotated: Path) -> None:
    found = ShardSet(annotated / "pairs-run" / "shards")
    assert found.subject_counts.tolist() == [2] * 4
    for number in range(len(found)):
        sample = found.sample(number)
        captions = [subject.caption for subject in sample.document.subjects]
        assert captions == ["a red block", "a blue block"]
        bottom = 90 + int(re.findall(r"\d+", sample.document.key)[-1])
        blocks = ((0, (20, 40, 55, bottom)), (2, (70, 30, 105, 80)))
        for mask, (channel, box_xyxy), identity in zip(sample.masks, blocks, sample.identities, strict=True):
            assert sample.target[mask].mean(axis=0).argmax() == channel
            rows, columns = np.nonzero(mask)
            found_xyxy = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(found_xyxy - np.array(box_xyxy) * SIDE / 120).max() <= 2, "a pixel or two of JPEG edge"
            assert mask.sum() > 0.9 * np.prod(found_xyxy[2:] - found_xyxy[:2]), "full, as a block is"
            assert identity[32, 32].argmax() == channel
        assert sample.document.prompts.background == "the grey studio scene"


@pytest.mark.slow
def test_both_are_trained_on(annotated: Path, tmp_path: Path) -> None:
    overrides = [
        "datasources.main.type=sigma_set",
        f"datasources.main.path={annotated / 'any-run' / 'shards'}",
        "datasources.pairs.type=sigma_set",
        f"datasources.pairs.path={annotated / 'pairs-run' / 'shards'}",
        "granularities.precise=null",
        "granularities.boxes3d=null",
        "stages.s1.steps=4",
        "stages.s2=null",
        "stages.s3=null",
        "train.batch_size=2",
        "train.lora.rank=2",
        "train.lora.alpha=2",
        "train.validation_scenes=2",
        "train.grid_scenes=1",
        "train.grid_steps=1",
        f"run.dir={tmp_path / 'run'}",
    ]
    Framework.load(RECIPES / "curriculum.yaml", overrides).run()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    assert (tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors").exists()


def test_samples_say_where_they_come_from_and_that_they_have_no_depth(annotated: Path) -> None:
    for name, source in (("any-run", "AnyInsertion"), ("pairs-run", "MUSAR-Gen")):
        sample = ShardSet(annotated / name / "shards").sample(0)
        assert sample.document.provenance["source"] == source
        assert sample.depth is None


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "any", "bad.parquet", [insertion_row(0, "label", "tar_mask")])
    with pytest.raises(DataError, match="no column tar_mask"):
        annotate("any_insertion", tmp_path / "any", tmp_path / "run", 1)
    with pytest.raises((DataError, RecipeError), match=r"build\.count"):
        write(tmp_path / "few", "a.parquet", [insertion_row(0, "label")])
        annotate("any_insertion", tmp_path / "few", tmp_path / "run2", 9)
