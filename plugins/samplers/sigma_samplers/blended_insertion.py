"""Subjects into a photograph in one loop: outside the regions the latents are the photograph's (section 5.3).

After every step the latents outside the region are replaced by the photograph's latents noised to the next t with the
same noise tensor; the last step uses the clean photograph. One loop serves any number of subjects.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from sigma_framework import Backbone, OnStep, SampleRequest, SigmaError, Tokens
from sigma_samplers.config import BlendedInsertionConfig
from sigma_samplers.euler import euler_step, predict_velocity


@dataclass(frozen=True)
class BlendedInsertionSampler:
    """Euler steps that keep a photograph outside the region."""

    config: BlendedInsertionConfig

    @torch.no_grad()
    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1]; a latent may change when any of its pixels is in the region.

        Raises:
            SigmaError: the request has no background or no region.
        """
        if request.background is None or request.region is None:
            raise SigmaError(
                "blended_insertion needs a background photograph and a region; give the scene a `background`"
            )
        noise = backbone.noise(request.size_hw, request.generators)
        clean = backbone.encode_image(request.background, "target").values.to(noise.values)
        regions = request.region if request.region.ndim == 3 else request.region[None]
        free = torch.cat([backbone.region_tokens(region) for region in regions]).to(noise.values) > 0
        times = backbone.timesteps(request.steps, noise.length).tolist()
        times = times[len(times) - 1 - max(1, math.ceil(self.config.start * request.steps)) :]
        x = Tokens(values=noised(clean, noise.values, times[0]), ids=noise.ids)
        for step, (t, t_next) in enumerate(itertools.pairwise(times)):
            velocity = predict_velocity(backbone, x, t, request, self.config.adapter_guidance)
            stepped = euler_step(x.values, velocity, t, t_next)
            blended = torch.where(free, stepped, noised(clean, noise.values, t_next))
            x = Tokens(values=blended, ids=x.ids)
            if on_step is not None:
                changed = on_step(step, t_next, {"latents": x.values})
                if changed and "latents" in changed:
                    x = Tokens(values=changed["latents"], ids=x.ids)
        return backbone.decode(x.values, request.size_hw)


def noised(clean: torch.Tensor, noise: torch.Tensor, t: float) -> torch.Tensor:
    """``x_t = (1 - t) x_0 + t eps``; exactly the noise at t = 1 and exactly ``clean`` at t = 0."""
    return (1 - t) * clean + t * noise
