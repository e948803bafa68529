"""Registers the measures that need no download."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_framework import MetricSpec, hookimpl
from sigma_metrics.config import PsnrConfig, SsimConfig

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_metrics() -> Iterable[MetricSpec]:
    """PSNR and SSIM against a ground-truth image."""
    yield MetricSpec(
        name="psnr",
        config=PsnrConfig,
        factory="sigma_metrics.psnr:Psnr",
        summary="peak signal to noise ratio against the target, dB; whole image and subject pixels",
        needs=frozenset({"target"}),
    )
    yield MetricSpec(
        name="ssim",
        config=SsimConfig,
        factory="sigma_metrics.ssim:Ssim",
        summary="structural similarity against the target (Wang et al. 2004), luma, 0 to 1",
        needs=frozenset({"target"}),
    )
