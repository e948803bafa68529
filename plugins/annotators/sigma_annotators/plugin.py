"""Registers the annotators that need no model."""

from __future__ import annotations

from collections.abc import Iterable

from sigma_annotators.config import SubjectFilterConfig
from sigma_framework import AnnotatorSpec, hookimpl

SIGMA_PLUGIN_API = 1


@hookimpl
def sigma_register_annotators() -> Iterable[AnnotatorSpec]:
    """The filter of section A.1."""
    yield AnnotatorSpec(
        name="subject_filter",
        config=SubjectFilterConfig,
        factory="sigma_annotators.subject_filter:SubjectFilter",
        summary="drops tiny, huge and doubled subjects, and images with too few left (section A.1)",
        reads=frozenset({"masks", "boxes_xyxy", "captions"}),
    )
