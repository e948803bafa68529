"""Pictures from full prompts, by any text-to-image pipeline of diffusers (section A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.learned.config import TextToImageConfig
from sigma_annotators.learned.pipelines import ImagePipeline
from sigma_annotators.learned.weights import told_name, with_models
from sigma_annotators.records import require


class TextToImage:
    """Adds ``target``; ``build.batch`` records are drawn together, each from a seed of its own."""

    def __init__(self, config: TextToImageConfig) -> None:
        self.config = config
        self._pipeline = ImagePipeline(
            "text_to_image",
            config.weights,
            config.revision,
            device=config.device,
            dtype=config.dtype,
            offload=config.offload,
            takes=("prompt", "num_inference_steps"),
        )
        self._name = told_name(config.weights, self._pipeline.pipeline, config.revision)

    def __reduce__(self) -> tuple[type[TextToImage], tuple[TextToImageConfig]]:
        return TextToImage, (self.config,)

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """One picture per record; a picture that is there is kept."""
        config = self.config
        for number, record in enumerate(records):
            require(record, number, "text_to_image", ("prompt_full",))
        seeds = [int(rng.integers(2**62)) for _ in records]
        drawn = iter(self._drawn([(r, s) for r, s in zip(records, seeds, strict=True) if r.get("target") is None]))
        for record in records:
            if record.get("target") is not None:
                yield record
                continue
            licence = {"licence": config.licence} if config.licence else {}
            yield with_models({**record, "target": next(drawn), **licence}, text_to_image=self._name)

    def _drawn(self, wanted: Sequence[tuple[Mapping[str, Any], int]]) -> list[NDArray[np.uint8]]:
        """A picture for each (record, seed)."""
        if not wanted:
            return []
        config = self.config
        return self._pipeline.pictures(
            [seed for _, seed in wanted],
            prompt=[record["prompt_full"] for record, _ in wanted],
            width=config.width,
            height=config.height,
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
            max_area=config.width * config.height,
        )
