"""PSNR and SSIM: known values, perfect on the target, worse on noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from sigma_framework import ControlImages, Result, Scene
from sigma_metrics.config import PsnrConfig, SsimConfig
from sigma_metrics.psnr import Psnr
from sigma_metrics.ssim import Ssim, similarity

RNG = np.random.default_rng(0)
TARGET = np.clip(np.cumsum(RNG.normal(0, 9, (32, 32, 3)), axis=0) + 120, 0, 255).astype(np.uint8)


def scene() -> Scene:
    picture = np.zeros((16, 16, 3), np.uint8)
    subject = {"name": "s", "image": picture, "caption": "c", "control": {"type": "box2d", "xyxy": [0, 0, 16, 16]}}
    return Scene.load({"version": 1, "size": [32, 32], "prompt": "a", "subjects": [subject]})


def result(picture: np.ndarray) -> Result:
    regions = np.zeros((1, 32, 32), bool)
    regions[0, :16, :16] = True
    controls = ControlImages(spatial=TARGET, identity=TARGET, regions=regions, layout=TARGET)
    return Result(images=(Image.fromarray(picture),), controls=controls, scene=scene(), seeds=(0,))


def test_psnr_of_a_known_error() -> None:
    metric = Psnr(PsnrConfig())
    off = np.where(TARGET > 128, TARGET - 10, TARGET + 10).astype(np.uint8)
    metric.update(result(off), scene(), TARGET)
    metric.update(result(TARGET), scene(), TARGET)
    metric.update(result(TARGET), scene(), None)
    first, second, third = metric.compute()["psnr"]
    assert first == pytest.approx(10 * math.log10(255**2 / 100))
    assert second == math.inf
    assert math.isnan(third)


def test_psnr_of_subjects_ignores_the_rest() -> None:
    metric = Psnr(PsnrConfig(subjects_only=True))
    elsewhere = TARGET.copy()
    elsewhere[20:] = 0
    metric.update(result(elsewhere), scene(), TARGET)
    assert metric.compute()["psnr_subjects"] == (math.inf,)


def test_ssim_orders_pictures() -> None:
    slight = np.clip(TARGET + RNG.normal(0, 5, TARGET.shape), 0, 255).astype(np.uint8)
    noise = RNG.integers(0, 255, TARGET.shape).astype(np.uint8)
    metric = Ssim(SsimConfig())
    for picture in (TARGET, slight, noise):
        metric.update(result(picture), scene(), TARGET)
    same, near, far = metric.compute()["ssim"]
    assert same == pytest.approx(1.0)
    assert 1 > near > 0.7
    assert far < 0.3


def test_ssim_agrees_with_the_definition_on_one_window() -> None:
    x, y = TARGET[:7, :7] @ [0.299, 0.587, 0.114], TARGET[9:16, :7] @ [0.299, 0.587, 0.114]
    cov = np.cov(x.ravel(), y.ravel())
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * x.mean() * y.mean() + c1) * (2 * cov[0, 1] + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (cov[0, 0] + cov[1, 1] + c2)
    assert similarity(TARGET[:7, :7], TARGET[9:16, :7], 7) == pytest.approx(expected)


def test_window_must_be_odd() -> None:
    with pytest.raises(ValueError, match="odd"):
        SsimConfig(window=4)
