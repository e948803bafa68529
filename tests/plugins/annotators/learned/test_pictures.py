"""``text_to_image`` and ``reposer`` on a small pipeline of FLUX.1 Kontext's classes, which serves both."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_annotators.learned.config import FinderConfig, ReposerConfig, TextToImageConfig
from sigma_annotators.learned.reposer import Reposer
from sigma_annotators.learned.text_to_image import TextToImage
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import WeightsError
from sigma_framework.testing import AnnotatorConformance

SPECS = {spec.name: spec for spec in sigma_register_annotators()}
SMALL: dict[str, Any] = {"width": 32, "height": 48, "steps": 1, "guidance": None}
PROMPTS = ({"key": "a", "prompt_full": "a red cube"}, {"key": "b", "prompt_full": "a blue cone"})


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


class TestTextToImage(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["text_to_image"]
    options: ClassVar[dict[str, Any]] = {}
    records: ClassVar[Any] = PROMPTS

    @pytest.fixture(autouse=True)
    def _models(self, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"weights": str(folders / "kontext"), **SMALL})


def test_pictures_have_their_size_and_their_own_seed(folders: Path) -> None:
    stage = TextToImage(TextToImageConfig(weights=str(folders / "kontext"), licence="Apache-2.0", **SMALL))
    both = list(stage.annotate(PROMPTS, rng()))
    assert [record["target"].shape for record in both] == [(48, 32, 3)] * 2
    assert both[0]["target"].dtype == np.uint8
    (alone,) = stage.annotate(PROMPTS[:1], rng())
    assert np.abs(alone["target"].astype(int) - both[0]["target"]).max() <= 2, "a picture depends on its batch"
    assert np.abs(both[1]["target"].astype(int) - both[0]["target"]).max() > 20
    assert both[0]["licence"] == "Apache-2.0"
    assert both[0]["provenance"]["models"] == {"text_to_image": "kontext"}


def test_a_picture_that_is_there_is_kept(folders: Path, picture: np.ndarray) -> None:
    stage = TextToImage(TextToImageConfig(weights=str(folders / "kontext"), **SMALL))
    alone = list(stage.annotate(PROMPTS, rng()))
    kept, drawn = stage.annotate([{**PROMPTS[0], "target": picture}, PROMPTS[1]], rng())
    assert kept["target"] is picture
    assert "provenance" not in kept
    assert np.abs(drawn["target"].astype(int) - alone[1]["target"]).max() <= 2, "its seed is its own"


def save_unconditional(folder: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    model = UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    DDPMPipeline(unet=model, scheduler=DDPMScheduler()).save_pretrained(folder)


def test_weights_that_cannot_be_used_are_refused(tmp_path: Path, offline: None) -> None:
    with pytest.raises(
        WeightsError, match=r"text_to_image: weights: black-forest-labs/FLUX\.1-dev is not on this mach"
    ):
        TextToImage(TextToImageConfig())
    with pytest.raises(WeightsError, match=r"reposer: weights: black-forest-labs/FLUX\.1-Kontext-dev is not on this"):
        Reposer(ReposerConfig())
    save_unconditional(tmp_path / "ddpm")
    with pytest.raises(WeightsError, match="is a DDPMPipeline, which takes no prompt"):
        TextToImage(TextToImageConfig(weights=str(tmp_path / "ddpm")))


def options_of(folders: Path, **finder: Any) -> dict[str, Any]:
    models = {"detector": str(folders / "detector"), "masks": str(folders / "masks")}
    found = {**models, "box_threshold": 0.0, "text_threshold": 0.0, **finder}
    return {"weights": str(folders / "kontext"), "size": 32, "identity_size": 16, "steps": 1, "finder": found}


def reposer(folders: Path, **finder: Any) -> Reposer:
    options = options_of(folders, **finder)
    return Reposer(ReposerConfig(**{**options, "finder": FinderConfig(**options["finder"])}))


def record_of(picture: np.ndarray) -> dict[str, Any]:
    masks = np.zeros((2, 48, 64), bool)
    masks[0, 8:30, 6:24] = masks[1, 14:40, 34:56] = True
    return {"key": "a", "target": picture, "masks": masks, "captions": ["a red block", "a blue block"]}


class TestReposer(AnnotatorConformance):
    spec: ClassVar[Any] = SPECS["reposer"]
    options: ClassVar[dict[str, Any]] = {}
    records: ClassVar[Any] = ()

    @pytest.fixture(autouse=True)
    def _models(self, folders: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", options_of(folders))
        monkeypatch.setattr(type(self), "records", (record_of(picture),))


def test_subjects_that_are_found_again_get_an_identity(folders: Path, picture: np.ndarray) -> None:
    (made,) = reposer(folders).annotate_or_reject([record_of(picture)], rng())
    assert [identity.shape for identity in made["identities"]] == [(16, 16, 3)] * 2
    assert "identities" in made["per_subject"]
    assert made["counts"] == {"subjects not found again": 0, "pictures reposed": 2}
    assert {"reposer", "reposer_detector", "reposer_masks"} == set(made["provenance"]["models"])


def test_subjects_that_are_not_found_again_go(folders: Path, picture: np.ndarray) -> None:
    stage = reposer(folders, box_threshold=1.0)
    (made,) = stage.annotate_or_reject([record_of(picture)], rng())
    assert made["rejected"] == "no subject found again"
    assert made["counts"] == {"subjects not found again": 2, "pictures reposed": 4}, "two attempts each"
    given = {**record_of(picture), "identities": ["mine", "too"]}
    assert next(stage.annotate([given], rng()))["identities"] == ["mine", "too"]


def test_instructions_follow_their_mix(folders: Path) -> None:
    stage, draws = reposer(folders), rng()
    plans = [stage._plan("the red block", draws)[0] for _ in range(3000)]
    kinds = Counter("place" if text.startswith("Place") else text.split(" around")[0] for text in plans)
    shares = {kind: count / 3000 for kind, count in kinds.items()}
    assert shares["place"] == pytest.approx(0.4, abs=0.04)
    for degrees, share in ((30, 0.15), (45, 0.15), (60, 0.1), (90, 0.1)):
        assert shares[f"Rotate the camera by {degrees} degrees"] == pytest.approx(share, abs=0.03)
    assert sum(count for kind, count in kinds.items() if "in motion" in kind) / 3000 == pytest.approx(0.1, abs=0.03)
    assert all("the red block" in text for text in plans)


@pytest.mark.parametrize("wrong", [{"prompts": {}}, {"prompts": {"{x}": 1.0}}, {"attempts": 0}, {"padding": 9.0}])
def test_senseless_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|need|braces"):
        ReposerConfig(**wrong)
