"""Registers the annotators of this package."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_annotators.classical.config import (
    BoxFitterConfig,
    ColourSegmenterConfig,
    CutoutIdentitiesConfig,
    PlainPromptsConfig,
    TemplatePromptsConfig,
)
from sigma_annotators.config import DistinctPromptsConfig, ReferenceCutoutsConfig, SubjectFilterConfig
from sigma_annotators.learned.config import (
    CaptionerConfig,
    DepthConfig,
    PromptWriterConfig,
    ReposerConfig,
    SegmenterConfig,
    TextToImageConfig,
)
from sigma_framework import AnnotatorSpec, hookimpl

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_annotators() -> Iterable[AnnotatorSpec]:
    """Nothing heavy is imported before a stage works."""
    yield AnnotatorSpec(
        name="subject_filter",
        config=SubjectFilterConfig,
        factory="sigma_annotators.subject_filter:SubjectFilter",
        summary="drops tiny, huge and doubled subjects, and images with too few left (section A.1)",
        reads=frozenset({"masks", "boxes_xyxy", "captions"}),
    )
    yield AnnotatorSpec(
        name="distinct_prompts",
        config=DistinctPromptsConfig,
        factory="sigma_annotators.distinct_prompts:DistinctPrompts",
        summary="of prompts that say the same in a whole set the first stays",
        reads=frozenset({"captions", "prompt_background"}),
    )
    yield AnnotatorSpec(
        name="template_prompts",
        config=TemplatePromptsConfig,
        factory="sigma_annotators.classical.template_prompts:TemplatePrompts",
        summary="prompts and captions by a small grammar, without a model",
        writes=frozenset({"captions", "prompt_full", "prompt_background"}),
    )
    yield AnnotatorSpec(
        name="colour_segmenter",
        config=ColourSegmenterConfig,
        factory="sigma_annotators.classical.colour_segmenter:ColourSegmenter",
        summary="masks of free-standing subjects by the colours their captions name, without a model",
        extra="build",
        reads=frozenset({"target", "captions"}),
        writes=frozenset({"masks", "boxes_xyxy"}),
    )
    yield AnnotatorSpec(
        name="box_fitter",
        config=BoxFitterConfig,
        factory="sigma_annotators.classical.box_fitter:BoxFitter",
        summary="2D boxes around masks, oriented 3D boxes around their points in metric depth",
        extra="build",
        reads=frozenset({"masks", "depth", "camera"}),
        writes=frozenset({"boxes_xyxy", "boxes_3d"}),
    )
    yield AnnotatorSpec(
        name="plain_prompts",
        config=PlainPromptsConfig,
        factory="sigma_annotators.classical.completion:PlainPrompts",
        summary="prompts from the captions for records that have none, without a model",
        reads=frozenset({"captions"}),
        writes=frozenset({"prompt_full", "prompt_background"}),
    )
    yield AnnotatorSpec(
        name="cutout_identities",
        config=CutoutIdentitiesConfig,
        factory="sigma_annotators.classical.completion:CutoutIdentities",
        summary="identity images cut out of the picture itself for records that have none",
        reads=frozenset({"target", "masks"}),
        writes=frozenset({"identities"}),
    )
    yield AnnotatorSpec(
        name="reference_cutouts",
        config=ReferenceCutoutsConfig,
        factory="sigma_annotators.reference_cutouts:ReferenceCutouts",
        summary="identity images cut out of reference pictures by a segmenter of this package (section A.10)",
        reads=frozenset({"reference", "captions"}),
        writes=frozenset({"identities"}),
    )
    yield AnnotatorSpec(
        name="prompt_writer",
        config=PromptWriterConfig,
        factory="sigma_annotators.learned.prompt_writer:PromptWriter",
        summary="prompts and captions by a language model, here or behind an OpenAI-compatible server",
        writes=frozenset({"captions", "prompt_full", "prompt_background"}),
    )
    yield AnnotatorSpec(
        name="captioner",
        config=CaptionerConfig,
        factory="sigma_annotators.learned.captioner:Captioner",
        summary="prompts of pictures by a model that sees, behind an OpenAI-compatible server (section A.10)",
        reads=frozenset({"target", "captions"}),
        writes=frozenset({"prompt_full", "prompt_background"}),
    )
    yield AnnotatorSpec(
        name="text_to_image",
        config=TextToImageConfig,
        factory="sigma_annotators.learned.text_to_image:TextToImage",
        summary="pictures from full prompts, by any text-to-image pipeline of diffusers",
        reads=frozenset({"prompt_full"}),
        writes=frozenset({"target"}),
    )
    yield AnnotatorSpec(
        name="segmenter",
        config=SegmenterConfig,
        factory="sigma_annotators.learned.segmenter:Segmenter",
        summary="masks of the subjects that captions name, by GroundingDINO and SAM",
        reads=frozenset({"target", "captions"}),
        writes=frozenset({"masks", "boxes_xyxy", "scores"}),
    )
    yield AnnotatorSpec(
        name="depth",
        config=DepthConfig,
        factory="sigma_annotators.learned.depth:Depth",
        summary="depth and camera, by a metric Depth-Anything-V2 or by MoGe-2",
        reads=frozenset({"target"}),
        writes=frozenset({"depth", "depth_kind", "camera"}),
    )
    yield AnnotatorSpec(
        name="reposer",
        config=ReposerConfig,
        factory="sigma_annotators.learned.reposer:Reposer",
        summary="identity images in a new pose and light, by FLUX.1 Kontext, checked by finding the subject again",
        reads=frozenset({"target", "masks", "captions"}),
        writes=frozenset({"identities"}),
    )
