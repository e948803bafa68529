"""Identity images from reference pictures: the subject is segmented there as it is in the target (section A.10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sigma_annotators.config import ReferenceCutoutsConfig
from sigma_annotators.records import kept, require
from sigma_framework import AnnotatorSpec, DataError, square_on_white


class ReferenceCutouts:
    """Adds ``identities``: the subject of ``reference``, found by a segmenter, cut out on white; ``reference`` goes."""

    def __init__(self, config: ReferenceCutoutsConfig) -> None:
        self.config = config
        spec = _segmenters().get(config.segmenter)
        if spec is None:
            raise DataError(
                f"reference_cutouts.segmenter: found {config.segmenter}, expected one of: {', '.join(_segmenters())}"
            )
        try:
            self._options = _configured(spec.config(), config.segmenter_options)
        except (TypeError, ValueError) as error:
            raise DataError(f"reference_cutouts.segmenter_options: {error}") from error
        self._spec = spec

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Records whose subject is not found in the reference are dropped; draws nothing from ``rng`` itself."""
        return kept(self.annotate_or_reject(records, rng))

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead.

        Raises:
            DataError: a record lacks a key, or has several subjects and one reference.
        """
        for number, record in enumerate(records):
            require(record, number, "reference_cutouts", ("reference", "captions"))
            if len(record["captions"]) != 1:
                raise DataError(
                    f"{record.get('key', number)}: found {len(record['captions'])} subjects, expected one per reference"
                )
            asked = {"key": record.get("key", ""), "target": record["reference"], "captions": record["captions"]}
            found = list(self._segmenter.annotate([asked], rng))
            if not found or not np.asarray(found[0]["masks"][0]).any():
                yield {"key": record.get("key", ""), "rejected": "no subject found in the reference"}
                continue
            mask = np.asarray(found[0]["masks"][0], bool)
            alone = np.where(mask[:, :, None], record["reference"], np.uint8(255))
            identity = square_on_white(alone, self.config.identity_size, mask, self.config.padding)
            rest = {key: value for key, value in record.items() if key != "reference"}
            per_subject = list(dict.fromkeys([*record.get("per_subject", ()), "identities"]))
            yield {**rest, "identities": [identity], "per_subject": per_subject}

    @cached_property
    def _segmenter(self) -> Any:
        return self._spec.load_factory()(self._options)


def _configured(defaults: Any, options: Mapping[str, Any]) -> Any:
    """The record with some options changed; a map changes options of a record inside it (``finder``)."""
    inner = {
        name: _configured(getattr(defaults, name), value)
        for name, value in options.items()
        if isinstance(value, Mapping) and is_dataclass(getattr(defaults, name, None))
    }
    return replace(defaults, **{**options, **inner})


def _segmenters() -> dict[str, AnnotatorSpec]:
    """Annotators of this package that make masks of pictures and captions."""
    from sigma_annotators.plugin import sigma_register_annotators

    return {
        spec.name: spec
        for spec in sigma_register_annotators()
        if "masks" in spec.writes and spec.reads <= {"target", "captions"}
    }
