"""Registers the measures."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_framework import MetricSpec, ObjectiveSpec, hookimpl
from sigma_metrics.config import (
    BackgroundChangeConfig,
    ConfusionConfig,
    IdentitySimilarityConfig,
    JudgeDepthMseConfig,
    MissingSubjectsConfig,
    PsnrConfig,
    RegionIouConfig,
    RoutingAccuracyConfig,
    SsimConfig,
)
from sigma_metrics.field.config import (
    ClipIqaConfig,
    DepthMseConfig,
    DinoIConfig,
    MusiqConfig,
    SiglipIConfig,
    SiglipTConfig,
)
from sigma_metrics.judge.options import JudgeOptions

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_metrics() -> Iterable[MetricSpec]:
    """Against a ground-truth image, by what a small judge sees, and by the encoders of the field."""
    yield from _against_targets()
    yield from _by_the_judge()
    yield from _of_the_field()


def _against_targets() -> Iterable[MetricSpec]:
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
    yield MetricSpec(
        name="background_change",
        config=BackgroundChangeConfig,
        factory="sigma_metrics.layout:BackgroundChange",
        summary="mean absolute difference from the target outside all regions, levels 0 to 255",
        needs=frozenset({"target"}),
        better="lower",
    )


def _by_the_judge() -> Iterable[MetricSpec]:
    yield MetricSpec(
        name="routing_accuracy",
        config=RoutingAccuracyConfig,
        factory="sigma_metrics.routing:RoutingAccuracy",
        summary="share of subjects whose own identity is the nearest of the scene's identities, 0 to 1",
        objectives={
            "judge": ObjectiveSpec(
                options=JudgeOptions,
                factory="sigma_metrics.judge.objective:build_objective",
                summary="trains the judge on a data source's ground truth",
            )
        },
    )
    yield MetricSpec(
        name="confusion",
        config=ConfusionConfig,
        factory="sigma_metrics.routing:Confusion",
        summary="share of subjects in another's region, regions and identities matched one to one, 0 to 1",
        better="lower",
    )
    yield MetricSpec(
        name="missing_subjects",
        config=MissingSubjectsConfig,
        factory="sigma_metrics.routing:MissingSubjects",
        summary="share of regions without a subject, 0 to 1",
        better="lower",
    )
    yield MetricSpec(
        name="identity_similarity",
        config=IdentitySimilarityConfig,
        factory="sigma_metrics.routing:IdentitySimilarity",
        summary="cosine between what a region shows and its identity image, by the judge, -1 to 1",
    )
    yield MetricSpec(
        name="region_iou",
        config=RegionIouConfig,
        factory="sigma_metrics.layout:RegionIou",
        summary="overlap of each region with the subject found for it, by the judge, 0 to 1",
    )
    yield MetricSpec(
        name="judge_depth_mse",
        config=JudgeDepthMseConfig,
        factory="sigma_metrics.layout:JudgeDepthMse",
        summary="squared error of relative depth on subject pixels, by the judge, levels 0 to 255",
        better="lower",
    )


def _of_the_field() -> Iterable[MetricSpec]:
    yield MetricSpec(
        name="dino_i",
        config=DinoIConfig,
        factory="sigma_metrics.field.identity:DinoI",
        summary="cosine x 100 between crops at the subjects' boxes and their identity images, by DINOv2",
    )
    yield MetricSpec(
        name="siglip_i",
        config=SiglipIConfig,
        factory="sigma_metrics.field.identity:SiglipI",
        summary="cosine x 100 between crops at the subjects' boxes and their identity images, by SigLIP",
    )
    yield MetricSpec(
        name="siglip_t",
        config=SiglipTConfig,
        factory="sigma_metrics.field.text:SiglipT",
        summary="cosine x 100 between image and prompt, by SigLIP",
    )
    yield MetricSpec(
        name="depth_mse",
        config=DepthMseConfig,
        factory="sigma_metrics.field.depth:DepthMse",
        summary="squared error of estimated depth on subject pixels, levels 0 to 255",
        better="lower",
    )
    yield MetricSpec(
        name="clip_iqa",
        config=ClipIqaConfig,
        factory="sigma_metrics.field.quality:ClipIqa",
        summary="probability x 100 of a good photo against a bad one, by CLIP",
    )
    yield MetricSpec(
        name="musiq",
        config=MusiqConfig,
        factory="sigma_metrics.field.musiq:Musiq",
        summary="image quality by MUSIQ (Ke et al. 2021), from its authors' checkpoint",
        extra="iqa-noncommercial",
    )
