"""``acme_midpoint``: each step looks at its middle first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from acme_kit.config import MidpointConfig
from sigma_framework import Backbone, OnStep, SampleRequest, Tokens


@dataclass(frozen=True)
class MidpointSampler:
    """Second order: half an Euler step, then a whole one with the velocity found there."""

    config: MidpointConfig

    @torch.no_grad()
    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1]."""
        x = backbone.noise(request.size_hw, request.generators)
        times = backbone.timesteps(request.steps, x.length).tolist()
        for step, (t, after) in enumerate(itertools.pairwise(times)):
            middle = (t + after) / 2
            halfway = Tokens(values=x.values + (middle - t) * _velocity(backbone, request, x, t), ids=x.ids)
            values = x.values + (after - t) * _velocity(backbone, request, halfway, middle)
            answer = on_step(step, after, {"latents": values}) if on_step else None
            x = Tokens(values=answer["latents"] if answer else values, ids=x.ids)
        return backbone.decode(x.values, request.size_hw)


def _velocity(backbone: Backbone, request: SampleRequest, x: Tokens, t: float) -> torch.Tensor:
    times = torch.full((x.values.shape[0],), t, device=x.values.device)
    return backbone.velocity(x, times, request.text, request.conditions, request.guidance)
