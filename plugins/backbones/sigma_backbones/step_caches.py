"""diffusers' step caches (``transformer.enable_cache``) in our loops: told which pass it is, and when a loop begins."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sigma_framework import PluginError

PASSES = ("cond", "uncond")
"""What diffusers' pipelines call the passes of a step with and without the prompt, in this order."""


class StepCaches:
    """A cache keeps results of the last step, apart for each text and each strength of the adapters.

    Without a cache nothing here does anything.

    Args:
        transformer: one of diffusers' models with ``enable_cache``.
    """

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        self._passes: list[tuple[Tensor, float]] = []

    def begin(self) -> None:
        """Another loop: what the last one left is of another image."""
        self._passes.clear()
        if self._transformer.is_cache_enabled:
            self._transformer._reset_stateful_cache()  # as DiffusionPipeline.maybe_free_model_hooks does

    def of(self, text: Tensor, share: float) -> AbstractContextManager[None]:
        """Around one call of the transformer under this text, with adapters at this share of their weights.

        Raises:
            PluginError: gradients are recorded, which a step's leftovers do not have.
        """
        if not self._transformer.is_cache_enabled:
            return nullcontext()
        if torch.is_grad_enabled():
            raise PluginError(
                "transformer.enable_cache: a step cache answers with results of an earlier step, which have no "
                "gradients; call transformer.disable_cache() before training"
            )
        known = (place for place, (one, strength) in enumerate(self._passes) if one is text and strength == share)
        place = next(known, len(self._passes))
        if place == len(self._passes):
            self._passes.append((text, share))
        context: AbstractContextManager[None] = self._transformer.cache_context(
            PASSES[place] if place < len(PASSES) else f"pass {place}"
        )
        return context
