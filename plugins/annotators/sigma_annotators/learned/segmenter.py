"""Masks of the subjects that captions name (section A.1: grounded segmentation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sigma_annotators.learned.config import SegmenterConfig
from sigma_annotators.learned.finder import SubjectFinder
from sigma_annotators.learned.weights import with_models
from sigma_annotators.records import box_of, kept, require, thinned


class Segmenter:
    """Adds ``masks``, ``boxes_xyxy`` and ``scores``; the surest subject comes first, those not found go."""

    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        self._finder = SubjectFinder("segmenter", config.finder, config.device, config.dtype)

    def __reduce__(self) -> tuple[type[Segmenter], tuple[SegmenterConfig]]:
        return Segmenter, (self.config,)

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Records without any subject found are dropped; draws nothing from ``rng``."""
        return kept(self.annotate_or_reject(records, rng))

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead."""
        for number, record in enumerate(records):
            require(record, number, "segmenter", ("target", "captions"))
            if record.get("masks") is not None:  # an annotation that is there is kept
                yield record
                continue
            found = self._finder.find(record["target"], list(record["captions"]))
            sure = [(-one.score, k) for k, one in enumerate(found) if one is not None]
            order = [k for _, k in sorted(sure)]
            counts = {"subjects not found": len(found) - len(order)}
            if not order:
                yield {"key": record.get("key", ""), "rejected": "no subject found", "counts": counts}
                continue
            kept = thinned(record, order, ("captions",))
            chosen = [one for k in order if (one := found[k]) is not None]
            masks = np.stack([one.mask for one in chosen])
            made = {
                "masks": masks,
                "boxes_xyxy": np.array([box_of(mask) for mask in masks]),
                "scores": [round(one.score, 4) for one in chosen],
                "mask_kind": "visible",
                "per_subject": list(dict.fromkeys([*kept.get("per_subject", ()), "scores"])),
                "counts": counts,
            }
            yield with_models({**kept, **made}, **self._finder.names)
