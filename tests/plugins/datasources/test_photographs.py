"""``photographs``: records for a build, what is refused, and the annotate recipe on a small folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from sigma_datasources import plugin
from sigma_datasources.photographs.config import PhotographsConfig
from sigma_datasources.photographs.source import PhotographsSource
from sigma_framework import DataError, DataSource, Framework, ShardSet
from sigma_framework.testing.component import ComponentConformance

RECIPE = Path(__file__).parents[3] / "recipes" / "annotate.yaml"


def make_folder(root: Path) -> Path:
    """Three pictures of a yellow disc on grey, larger than their targets, in a folder that names it."""
    (root / "duck_toy").mkdir(parents=True)
    rows, columns = np.mgrid[:240, :320]
    for number in range(3):
        picture = np.full((240, 320, 3), 150 + 20 * number, np.uint8)
        picture[(rows - 120) ** 2 + (columns - 160) ** 2 < 72**2] = (240, 210, 40)
        Image.fromarray(picture).save(root / "duck_toy" / f"{number:02d}.jpg", quality=95)
    return root


class TestPhotographs(ComponentConformance):
    spec = next(s for s in plugin.sigma_register_datasources() if s.name == "photographs")
    protocol: ClassVar[type] = DataSource
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"path": str(make_folder(tmp_path / "photos"))})


def source(path: Path, **options: Any) -> PhotographsSource:
    return PhotographsSource(PhotographsConfig(path=str(path), image_size=48, **options))


def test_a_record_says_what_the_folder_says(tmp_path: Path) -> None:
    found = source(make_folder(tmp_path), licence="CC BY 4.0")
    record = found.record(1)
    assert (len(found), record["key"], record["captions"]) == (3, "duck_toy/01.jpg", ["a duck toy"])
    assert record["target"].shape == (48, 48, 3)
    assert record["licence"] == "CC BY 4.0"
    assert source(tmp_path, caption="a bright duck").record(0)["captions"] == ["a bright duck"]


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "duck_toy" / "01.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"duck_toy/01\.jpg: not a picture"):
        source(tmp_path).record(1)
    with pytest.raises(DataError, match=r"annotate\.yaml source=FOLDER"):
        source(tmp_path)[0]
    with pytest.raises(DataError, match="no such folder"):
        source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        source(tmp_path / "empty")


def test_the_annotate_recipe_makes_shards_of_a_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos")
    small = ["datasources.pictures.image_size=96", "annotators.identities.identity_size=96"]
    Framework.load(RECIPE, [f"source={folder}", f"run.dir={tmp_path / 'run'}", *small]).run()
    shards = ShardSet(tmp_path / "run" / "shards")
    assert len(shards) == 3, "all of them"
    sample = shards.sample(0)
    rows, columns = np.mgrid[:96, :96] + 0.5
    truth = (rows - 48) ** 2 + (columns - 48) ** 2 < (72 * 96 / 240) ** 2
    assert (sample.masks[0] & truth).sum() / (sample.masks[0] | truth).sum() > 0.9
    assert sample.document.prompts.full == "a photograph of a duck toy"
    assert sample.identities[0].shape == (96, 96, 3)
    assert (sample.identities[0][0] > 250).all()
