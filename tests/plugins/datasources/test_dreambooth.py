"""DreamBooth's layout: which picture is what, cut-outs of references, and the recipe on a small folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from sigma_annotators.config import ReferenceCutoutsConfig
from sigma_annotators.plugin import sigma_register_annotators
from sigma_annotators.reference_cutouts import ReferenceCutouts
from sigma_datasources import plugin
from sigma_datasources.dreambooth.config import DreamBoothConfig
from sigma_datasources.dreambooth.source import DreamBoothSource
from sigma_framework import Annotator, DataError, DataSource, Framework
from sigma_framework.testing.component import ComponentConformance

RECIPE = Path(__file__).parents[3] / "recipes" / "dreambooth.yaml"
YELLOW, RED = (240, 210, 40), (200, 40, 40)


def picture(colour: tuple[int, int, int], left: int, grey: int = 160) -> np.ndarray:
    """A disc on grey."""
    rows, columns = np.mgrid[:96, :96]
    made = np.full((96, 96, 3), grey, np.uint8)
    made[(rows - 50) ** 2 + (columns - left) ** 2 < 26**2] = colour
    return made


def make_folder(root: Path) -> Path:
    """Two subjects with three and two pictures, one with a single picture, and the data set's list of classes."""
    for name, colour, count in (("duck_toy", YELLOW, 3), ("vase2", RED, 2), ("alone", RED, 1)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture(colour, 40 + 8 * number)).save(root / name / f"{number:02d}.png")
    (root / "prompts_and_classes.txt").write_text("Classes\n\nsubject_name,class\nduck_toy,toy\n\nPrompts\nvase2,x\n")
    return root


class TestDreamBooth(ComponentConformance):
    spec = next(s for s in plugin.sigma_register_datasources() if s.name == "dreambooth")
    protocol: ClassVar[type] = DataSource
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"path": str(make_folder(tmp_path / "photos"))})


class TestReferenceCutouts(ComponentConformance):
    spec = next(s for s in sigma_register_annotators() if s.name == "reference_cutouts")
    protocol: ClassVar[type] = Annotator


def source(path: Path, **options: Any) -> DreamBoothSource:
    return DreamBoothSource(DreamBoothConfig(path=str(path), image_size=64, reference_size=96, **options))


def test_the_first_picture_is_the_reference_of_all_others(tmp_path: Path) -> None:
    found = source(make_folder(tmp_path))
    records = [found.record(index) for index in range(len(found))]
    assert [record["key"] for record in records] == ["duck_toy/01.png", "duck_toy/02.png", "vase2/01.png"]
    assert [record["captions"] for record in records] == [["a toy"], ["a toy"], ["a vase"]]
    assert records[0]["target"].shape == (64, 64, 3)
    assert np.array_equal(records[1]["reference"], picture(YELLOW, 40))
    assert np.array_equal(records[2]["reference"], picture(RED, 40))


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no subject with two pictures"):
        source(tmp_path / "empty")
    with pytest.raises(DataError, match="no such folder"):
        source(tmp_path / "nowhere")
    with pytest.raises(DataError, match="name annotators"):
        source(make_folder(tmp_path / "photos"))[0]


def test_references_are_cut_out_on_white(tmp_path: Path) -> None:
    record = source(make_folder(tmp_path)).record(0)
    stage = ReferenceCutouts(ReferenceCutoutsConfig(identity_size=64))
    (made,) = stage.annotate([record], np.random.default_rng(0))
    (identity,) = made["identities"]
    assert "reference" not in made
    assert identity.shape == (64, 64, 3)
    assert np.abs(identity[32, 32].astype(int) - YELLOW).max() < 12
    assert (identity[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    across = (identity[32] != 255).any(axis=1).sum()
    assert 64 / 1.3 - 4 <= across <= 64 / 1.3 + 4
    flat = {**record, "reference": np.full((96, 96, 3), 120, np.uint8)}
    (rejected,) = stage.annotate_or_reject([flat], np.random.default_rng(0))
    assert rejected == {"key": "duck_toy/01.png", "rejected": "no subject found in the reference"}
    with pytest.raises(DataError, match=r"segmenter: found psnr, expected one of: .*colour_segmenter"):
        ReferenceCutouts(ReferenceCutoutsConfig(segmenter="psnr"))


def test_the_recipe_annotates_and_scores_a_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos")
    overrides = [f"source={folder}", f"run.dir={tmp_path / 'run'}", "evaluate.made_by=target"]
    lines = Framework.load(RECIPE, overrides).run()
    assert "psnr: inf" in lines
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["subjects"], row["control"], row["ssim"]) for row in rows] == [("1", "mask", "1")] * 3
    text = (tmp_path / "run" / "results.md").read_text()
    assert "Only a demonstration" in text
    assert "| one subject | SIGMA-GEN (paper) | 82.84 | 84.06 | 16.27 | Mask, Depth | 58.4 | 71.43 | 70.32 |" in text
    assert "Only a demonstration" in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "annotated" / "report.html").exists()
