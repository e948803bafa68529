"""``Flux Kontext*`` of the paper: the base as it is, the identity images as its reference, depth through a ControlNet.

No routing reaches the base: ``I^C`` is kept out of the token sequence, and only the depth that it carries is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sigma_framework import Backbone, OnStep, SampleRequest, SigmaError, Tokens
from sigma_samplers.config import GenerateConfig, KontextDepthControlnetConfig
from sigma_samplers.generate import GenerateSampler


@dataclass(frozen=True)
class KontextDepthControlnetSampler:
    """The loop of ``generate`` on a backbone with an external depth network; use no adapter with it."""

    config: KontextDepthControlnetConfig

    @torch.no_grad()
    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1].

        Raises:
            SigmaError: the backbone has no external depth network.
        """
        if not request.conditions:  # a base alone, without reference and depth
            return GenerateSampler(GenerateConfig()).sample(backbone, request, on_step)
        *references, spatial = request.conditions
        width = max((one.values.shape[-1] for one in references), default=0)
        if spatial.values.shape[-1] <= width:
            raise SigmaError(
                "kontext_depth_controlnet needs depth through an external network; write backbone.depth_control: "
                "FOLDER or a hub id, e.g. Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0 (backbone flux_kontext)"
            )
        carried = Tokens(values=spatial.values, ids=spatial.ids[:0])
        return GenerateSampler(GenerateConfig()).sample(
            backbone, replace(request, conditions=(*references, carried)), on_step
        )
