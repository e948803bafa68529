"""Identity images: each subject in a new pose, place and light, checked by finding it again (section A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_annotators.learned.config import ReposerConfig
from sigma_annotators.learned.finder import SubjectFinder
from sigma_annotators.learned.pipelines import ImagePipeline
from sigma_annotators.learned.weights import told_name, with_models
from sigma_annotators.records import kept, require, thinned
from sigma_framework import square_on_white

Rgb = NDArray[np.uint8]


class Reposer:
    """Adds ``identities``; a subject that is not found again in any attempt goes, with all that is said of it."""

    def __init__(self, config: ReposerConfig) -> None:
        self.config = config
        self._pipeline = ImagePipeline(
            "reposer",
            config.weights,
            config.revision,
            device=config.device,
            dtype=config.dtype,
            offload=config.offload,
            takes=("image", "prompt", "num_inference_steps"),
        )
        self._finder = SubjectFinder("reposer", config.finder, config.device, "float32")
        self._name = told_name(config.weights, self._pipeline.pipeline, config.revision)

    def __reduce__(self) -> tuple[type[Reposer], tuple[ReposerConfig]]:
        return Reposer, (self.config,)

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Records without any subject left are dropped."""
        return kept(self.annotate_or_reject(records, rng))

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead."""
        for number, record in enumerate(records):
            require(record, number, "reposer", ("target", "masks", "captions"))
            if record.get("identities"):  # references that are there are kept
                yield record
                continue
            masks, captions = np.asarray(record["masks"], bool), list(record["captions"])
            # All draws come before any picture: what a subject gets does not depend on how often another one failed.
            plans = [[self._plan(caption, rng) for _ in range(self.config.attempts)] for caption in captions]
            identities, kept, tries = [], [], 0
            for k, (mask, caption) in enumerate(zip(masks, captions, strict=True)):
                identity, used = self._repose(record["target"], mask, caption, plans[k])
                tries += used
                if identity is not None:
                    identities.append(identity)
                    kept.append(k)
            counts = {"subjects not found again": len(masks) - len(kept), "pictures reposed": tries}
            if not kept:
                yield {"key": record.get("key", ""), "rejected": "no subject found again", "counts": counts}
                continue
            own = [key for key in ("masks", "boxes_xyxy", "captions") if key in record]
            left = thinned(record, kept, own)
            per_subject = list(dict.fromkeys([*left.get("per_subject", ()), "identities"]))
            made = {**left, "identities": identities, "per_subject": per_subject, "counts": counts}
            yield with_models(made, reposer=self._name, **{f"reposer_{k}": v for k, v in self._finder.names.items()})

    def _plan(self, caption: str, rng: np.random.Generator) -> tuple[str, int]:
        """(instruction, seed) of one attempt."""
        texts, weights = zip(*self.config.prompts.items(), strict=True)
        share = np.asarray(weights, np.float64) / sum(weights)
        text = texts[int(rng.choice(len(texts), p=share))]
        place = self.config.places[int(rng.integers(len(self.config.places)))]
        return text.format(subject=caption, place=place), int(rng.integers(2**62))

    def _repose(
        self, target: Rgb, mask: NDArray[np.bool_], caption: str, plans: Sequence[tuple[str, int]]
    ) -> tuple[Rgb | None, int]:
        """(identity image, pictures made)."""
        config = self.config
        alone = np.where(mask[:, :, None], target, np.uint8(255))
        cutout = Image.fromarray(square_on_white(alone, config.size, mask, config.padding))
        for number, (prompt, seed) in enumerate(plans, 1):
            (picture,) = self._pipeline.pictures(
                [seed],
                image=cutout,
                prompt=prompt,
                height=config.size,
                width=config.size,
                num_inference_steps=config.steps,
                guidance_scale=config.guidance,
                max_area=config.size**2,
                _auto_resize=False,
            )
            (found,) = self._finder.find(picture, [caption])
            if found is not None:
                shown = np.where(found.mask[:, :, None], picture, np.uint8(255))
                return square_on_white(shown, config.identity_size, found.mask, config.padding), number
        return None, len(plans)
