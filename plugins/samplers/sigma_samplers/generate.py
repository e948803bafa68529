"""From noise to an image under the conditions of a request (section 3)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from sigma_framework import Backbone, OnStep, SampleRequest, Tokens
from sigma_samplers.config import GenerateConfig
from sigma_samplers.euler import euler_step, predict_velocity


@dataclass(frozen=True)
class GenerateSampler:
    """Euler steps on the backbone's schedule."""

    config: GenerateConfig

    @torch.no_grad()
    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1], image k made from generator k alone."""
        x = backbone.noise(request.size_hw, request.generators)
        times = backbone.timesteps(request.steps, x.length).tolist()
        for step, (t, t_next) in enumerate(itertools.pairwise(times)):
            velocity = predict_velocity(backbone, x, t, request, self.config.adapter_guidance)
            x = Tokens(values=euler_step(x.values, velocity, t, t_next), ids=x.ids)
            if on_step is not None:
                changed = on_step(step, t_next, {"latents": x.values})
                if changed and "latents" in changed:
                    x = Tokens(values=changed["latents"], ids=x.ids)
        return backbone.decode(x.values, request.size_hw)
