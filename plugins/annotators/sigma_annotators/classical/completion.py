"""What a record still lacks before it can be written: plain prompts, and identity images cut from the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sigma_annotators.classical.config import CutoutIdentitiesConfig, PlainPromptsConfig
from sigma_annotators.classical.template_prompts import listing
from sigma_annotators.records import require
from sigma_framework import square_on_white


@dataclass(frozen=True)
class PlainPrompts:
    """Adds ``prompt_full`` and ``prompt_background`` where a record has none."""

    config: PlainPromptsConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Prompts that are there are kept; draws nothing from ``rng``."""
        for number, record in enumerate(records):
            require(record, number, "plain_prompts", ("captions",))
            subjects = listing(list(record["captions"]))
            texts = {
                "prompt_background": self.config.background.format(subjects=subjects),
                "prompt_full": self.config.full.format(subjects=subjects),
            }
            yield {**record, **{key: text for key, text in texts.items() if not record.get(key)}}


@dataclass(frozen=True)
class CutoutIdentities:
    """Adds ``identities`` where a record has none: each subject cut out of the picture itself, on white.

    The subject then has the pose and the light that it has in the target: training on it learns to copy. A reposer,
    or reference pictures, teach more.
    """

    config: CutoutIdentitiesConfig

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Identities that are there are kept; draws nothing from ``rng``."""
        for number, record in enumerate(records):
            require(record, number, "cutout_identities", ("target", "masks"))
            if record.get("identities"):
                yield record
                continue
            identities = []
            for mask in np.asarray(record["masks"], bool):
                alone = np.where(mask[:, :, None], record["target"], np.uint8(255))
                identities.append(square_on_white(alone, self.config.identity_size, mask, self.config.padding))
            per_subject = list(dict.fromkeys([*record.get("per_subject", ()), "identities"]))
            yield {**record, "identities": identities, "per_subject": per_subject}
