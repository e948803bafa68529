"""Registers the data sources of this package."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_datasources.any_insertion.config import AnyInsertionConfig
from sigma_datasources.dreambooth.config import DreamBoothConfig
from sigma_datasources.musar_gen.config import MusarGenConfig
from sigma_datasources.photographs.config import PhotographsConfig
from sigma_datasources.sigma_set.config import SigmaSetConfig
from sigma_datasources.toybox.annotator_config import (
    ToyboxImageConfig,
    ToyboxOracleDepthConfig,
    ToyboxReposerConfig,
)
from sigma_datasources.toybox.config import MOST_SUBJECTS, ToyboxConfig
from sigma_framework import AnnotatorSpec, DataSourceSpec, hookimpl

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_datasources() -> Iterable[DataSourceSpec]:
    """The renderer is imported only when a recipe uses it."""
    yield DataSourceSpec(
        name="toybox",
        config=ToyboxConfig,
        factory="sigma_datasources.toybox.source:ToyboxSource",
        summary="textured solids on a ground plane, rendered on the fly with exact annotations",
        min_subjects=1,
        max_subjects=MOST_SUBJECTS,
        licence="Apache-2.0",
    )
    yield DataSourceSpec(
        name="sigma_set",
        config=SigmaSetConfig,
        factory="sigma_datasources.sigma_set.source:SigmaSetSource",
        summary="SIGMA-SET tar shards, local or behind an address; every member is checked by its hash",
        min_subjects=1,
        max_subjects=25,
    )
    yield DataSourceSpec(
        name="any_insertion",
        config=AnyInsertionConfig,
        factory="sigma_datasources.any_insertion.source:AnyInsertionSource",
        summary="AnyInsertion, as Parquet or as the converted folder: one subject with its reference and masks",
        extra="data",
        min_subjects=1,
        max_subjects=1,
    )
    yield DataSourceSpec(
        name="musar_gen",
        config=MusarGenConfig,
        factory="sigma_datasources.musar_gen.source:MusarGenSource",
        summary="MUSAR-Gen, as Parquet: two subjects without masks; to be annotated before training",
        extra="data",
        min_subjects=2,
        max_subjects=2,
    )
    yield DataSourceSpec(
        name="photographs",
        config=PhotographsConfig,
        factory="sigma_datasources.photographs.source:PhotographsSource",
        summary="a folder of photographs of one subject each; to be annotated before training",
        min_subjects=1,
        max_subjects=1,
    )
    yield DataSourceSpec(
        name="dreambooth",
        config=DreamBoothConfig,
        factory="sigma_datasources.dreambooth.source:DreamBoothSource",
        summary="a folder in DreamBooth's layout: first picture the reference, the others targets; to be annotated",
        min_subjects=1,
        max_subjects=1,
    )


@hookimpl
def sigma_register_annotators() -> Iterable[AnnotatorSpec]:
    """The toybox as stages of a build that needs no weights."""
    yield AnnotatorSpec(
        name="toybox_image",
        config=ToyboxImageConfig,
        factory="sigma_datasources.toybox.annotators:ToyboxImage",
        summary="draws toybox scenes from captions and a background prompt: a text-to-image model without weights",
        reads=frozenset({"captions", "prompt_background"}),
        writes=frozenset({"target", "toybox", "subject_numbers"}),
    )
    yield AnnotatorSpec(
        name="toybox_reposer",
        config=ToyboxReposerConfig,
        factory="sigma_datasources.toybox.annotators:ToyboxReposer",
        summary="identity images of toybox subjects in another pose and light",
        reads=frozenset({"toybox", "subject_numbers"}),
        writes=frozenset({"identities"}),
    )
    yield AnnotatorSpec(
        name="toybox_oracle_depth",
        config=ToyboxOracleDepthConfig,
        factory="sigma_datasources.toybox.annotators:ToyboxOracleDepth",
        summary="true depth and camera of toybox pictures",
        reads=frozenset({"toybox"}),
        writes=frozenset({"depth", "camera"}),
    )
