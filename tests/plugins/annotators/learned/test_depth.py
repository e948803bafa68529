"""``depth``: metric and relative checkpoints, validity, camera, and what box_fitter takes."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sigma_annotators.classical.box_fitter import BoxFitter
from sigma_annotators.classical.config import BoxFitterConfig
from sigma_annotators.learned.config import DepthConfig
from sigma_annotators.learned.depth import Depth, depth_of_disparity, estimate_of_moge
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import Camera, DataError, RecipeError, WeightsError
from sigma_framework.testing import AnnotatorConformance

RNG = np.random.default_rng(0)


def estimated(folder: Path, picture: np.ndarray, **options: Any) -> dict[str, Any]:
    (made,) = Depth(DepthConfig(weights=str(folder), **options)).annotate([{"key": "a", "target": picture}], RNG)
    return dict(made)


class TestDepth(AnnotatorConformance):
    spec: ClassVar[Any] = next(spec for spec in sigma_register_annotators() if spec.name == "depth")
    options: ClassVar[dict[str, Any]] = {}
    records: ClassVar[Any] = ()

    @pytest.fixture(autouse=True)
    def _models(self, folders: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"weights": str(folders / "metric")})
        monkeypatch.setattr(type(self), "records", ({"key": "a", "target": picture},))


def test_metric_depth_has_metres_a_camera_and_boxes(folders: Path, picture: np.ndarray) -> None:
    made = estimated(folders / "metric", picture, fov_y=60.0, saturated=1.0)
    assert made["depth_kind"] == "metric"
    assert made["depth"].shape == (48, 64)
    assert made["depth"].dtype == np.float32
    assert 0 < made["depth"].max() <= 20
    assert np.ptp(made["depth"]) > 0.01
    expected = Camera.from_fov_y(60.0, 64, 48)
    assert made["camera"] == {name: getattr(expected, name) for name in ("fx", "fy", "cx", "cy")}
    masks = np.zeros((1, 48, 64), bool)
    masks[0, 8:30, 6:24] = True
    (fitted,) = BoxFitter(BoxFitterConfig(method="pca")).annotate([{**made, "masks": masks}], RNG)
    assert fitted["boxes_3d"][0] is not None


def test_saturated_depth_is_unknown(folders: Path, picture: np.ndarray) -> None:
    whole = estimated(folders / "metric", picture, saturated=1.0)["depth"]
    middle = float(np.median(whole))
    cut = estimated(folders / "metric", picture, saturated=middle / 20)["depth"]
    assert (cut[whole >= middle] == 0).all()
    assert (cut[whole < middle * 0.999] > 0).all()


def test_relative_depth_is_kept_apart_and_refused_by_the_box_fitter(folders: Path, picture: np.ndarray) -> None:
    made = estimated(folders / "relative", picture)
    assert made["depth_kind"] == "relative"
    assert (made["depth"] > 0).all()
    with pytest.raises(DataError, match="relative depth, expected metric"):
        list(BoxFitter(BoxFitterConfig()).annotate([{**made, "masks": np.ones((1, 48, 64), bool)}], RNG))


def test_the_inverse_of_a_relative_depth_is_its_disparity() -> None:
    disparity = np.array([[0.0, 1.0, 2.0, 4.0]], np.float32)
    inverse = 1 / depth_of_disparity(disparity)
    assert (inverse - inverse.min()) / np.ptp(inverse) == pytest.approx(disparity / 4, abs=1e-5)
    assert np.isfinite(depth_of_disparity(np.full((2, 2), 3, np.float32))).all()


def test_depth_that_is_there_is_kept(folders: Path, picture: np.ndarray) -> None:
    depth = np.ones((48, 64), np.float32)
    record = {"key": "a", "target": picture, "depth": depth}
    assert next(iter(Depth(DepthConfig(weights=str(folders / "metric"))).annotate([record], RNG)))["depth"] is depth


def test_moges_answer_in_our_units() -> None:
    depth = np.array([[2.0, np.inf], [3.0, 4.0]], np.float32)
    intrinsics = np.array([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]], np.float32)
    entries = estimate_of_moge(depth, np.array([[True, False], [True, False]]), intrinsics).entries()
    assert entries["depth"].tolist() == [[2, 0], [3, 0]]
    assert entries["depth_kind"] == "metric"
    assert entries["camera"] == pytest.approx({"fx": 1.8, "fy": 2.4, "cx": 1.0, "cy": 1.0})


class FakeMoge:
    """The calls of ``moge.model.v2.MoGeModel`` that matter, with their arguments and answers."""

    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    gives_mask = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, model_kwargs: Any = None, **hf_kwargs: Any) -> Any:
        cls.asked.append((pretrained_model_name_or_path, hf_kwargs))
        return cls()

    def to(self, device: Any) -> Any:
        return self

    def eval(self) -> Any:
        return self

    def infer(self, image: torch.Tensor, apply_mask: bool = True) -> dict[str, torch.Tensor]:
        assert image.shape == (3, 48, 64)
        assert image.dtype == torch.float32
        assert 0.5 < float(image.max()) <= 1
        depth = torch.full((48, 64), 2.5)
        depth[:, :10] = torch.inf
        intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]])
        mask = {"mask": torch.isfinite(depth)} if self.gives_mask else {}
        return {"depth": depth, "intrinsics": intrinsics, "points": torch.zeros(48, 64, 3), **mask}


@pytest.fixture
def moge(monkeypatch: pytest.MonkeyPatch) -> type[FakeMoge]:
    package = types.ModuleType("moge.model.v2")
    package.MoGeModel = FakeMoge  # type: ignore[attr-defined]
    for name in ("moge", "moge.model"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "moge.model.v2", package)
    monkeypatch.setattr(FakeMoge, "asked", [])
    return FakeMoge


@pytest.mark.parametrize("mask", [True, False])
def test_moge_is_asked_as_its_package_wants(
    moge: type[FakeMoge], picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, mask: bool
) -> None:
    monkeypatch.setattr(moge, "gives_mask", mask)
    stage = Depth(DepthConfig(estimator="moge", revision="abc"))
    (made,) = stage.annotate([{"key": "a", "target": picture}], RNG)
    assert moge.asked == [("Ruicheng/moge-2-vitl-normal", {"revision": "abc"})], "its own weights, not the other's"
    assert made["depth_kind"] == "metric"
    assert (made["depth"][:, :10] == 0).all()
    assert (made["depth"][:, 10:] == 2.5).all()
    assert made["camera"] == pytest.approx({"fx": 0.9 * 64, "fy": 1.2 * 48, "cx": 32, "cy": 24})
    assert made["provenance"]["models"] == {"depth": "Ruicheng/moge-2-vitl-normal@abc"}


def test_moge_reads_a_folder(moge: type[FakeMoge], tmp_path: Path) -> None:
    Depth(DepthConfig(estimator="moge", weights=str(tmp_path), revision="abc"))
    assert moge.asked == [(str(tmp_path / "model.pt"), {})]


def test_what_cannot_be_used_is_refused(folders: Path, offline: None) -> None:
    with pytest.raises(WeightsError, match=r"depth: weights: depth-anything/.* is not on this machine"):
        Depth(DepthConfig())
    with pytest.raises(WeightsError, match="cannot be read"):
        Depth(DepthConfig(weights=str(folders / "language")))
    with pytest.raises(RecipeError, match=r"estimator moge: the package is not installed; pip install git\+"):
        Depth(DepthConfig(estimator="moge", weights="Ruicheng/moge-2-vitl-normal"))
    with pytest.raises(RecipeError, match="device: found cuda:9"):
        Depth(DepthConfig(weights=str(folders / "metric"), device="cuda:9"))
    with pytest.raises(ValueError, match="fov_y"):
        DepthConfig(fov_y=180.0)
