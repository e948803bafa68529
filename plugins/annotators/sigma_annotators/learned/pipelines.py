"""Pipelines of diffusers: loaded from a folder or the hub, called with what they take."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_annotators.learned.weights import place_of, quiet_libraries, read_weights
from sigma_framework import WeightsError


class ImagePipeline:
    """A pipeline that gives pictures.

    Args:
        option: the annotator's name, for messages.
        weights: folder or hub id.
        revision: of a hub id.
        device: option.
        dtype: option.
        offload: ``none``, ``model`` or ``sequential``.
        takes: arguments that its call must know.

    Raises:
        WeightsError: cannot be read, or is no such pipeline.
    """

    def __init__(
        self,
        option: str,
        weights: str,
        revision: str | None,
        *,
        device: str,
        dtype: str,
        offload: str,
        takes: Sequence[str],
    ) -> None:
        place, number = place_of(option, device, dtype)

        def read(source: str, options: dict[str, Any]) -> Any:
            from diffusers import DiffusionPipeline
            from diffusers.utils import logging

            bars = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()
            try:
                return DiffusionPipeline.from_pretrained(source, dtype=number, **options)
            finally:
                if bars:
                    logging.enable_progress_bar()

        self.pipeline = read_weights(f"{option}: weights", weights, revision, read)
        self._known = set(inspect.signature(type(self.pipeline).__call__).parameters)
        if missing := [name for name in takes if name not in self._known]:
            kind = type(self.pipeline).__name__
            raise WeightsError(f"{option}: weights: {weights} is a {kind}, which takes no {', '.join(missing)}")
        self.pipeline.set_progress_bar_config(disable=True)
        if offload == "model":
            self.pipeline.enable_model_cpu_offload(device=place)
        elif offload == "sequential":
            self.pipeline.enable_sequential_cpu_offload(device=place)
        else:
            self.pipeline.to(place)

    def pictures(self, seeds: Sequence[int], **arguments: Any) -> list[NDArray[np.uint8]]:
        """(H, W, 3) uint8, one per seed; arguments that are None, or that the pipeline does not know, are left out.

        A picture depends on its own seed: each has a generator, drawn on the CPU as diffusers advises.
        """
        import torch

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        known = {name: value for name, value in arguments.items() if value is not None and name in self._known}
        with quiet_libraries():  # CLIP cuts long prompts and says so every time; T5 reads them whole
            images = self.pipeline(**known, generator=generators, output_type="pil").images
        return [np.array(image.convert("RGB")) for image in images]
