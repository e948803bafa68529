"""The usual way to several subjects: one after another into the growing picture, with the same backbone.

Each pass is ``blended_insertion`` under the conditions of one subject alone. Cost grows with N, and a later subject
knows nothing of an earlier one but its pixels: what one loop for all is compared with (section 5.1, Figure 5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sigma_framework import Backbone, OnStep, SampleRequest
from sigma_samplers.blended_insertion import BlendedInsertionSampler
from sigma_samplers.config import BlendedInsertionConfig, IterativeInsertionConfig
from sigma_samplers.passes import counted_on, first_picture, pasted, require_subjects


@dataclass(frozen=True)
class IterativeInsertionSampler:
    """N loops, and one before them where the scene has no photograph."""

    config: IterativeInsertionConfig

    @torch.no_grad()
    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1]; what no region covers is the first picture, exactly.

        Raises:
            SigmaError: the request does not have its subjects one by one.
        """
        subjects = require_subjects(request, "iterative_insertion")
        before = 0 if request.background is not None else request.steps
        picture = first_picture(backbone, request, on_step)
        insertion = BlendedInsertionSampler(BlendedInsertionConfig())
        order = range(subjects.count)
        for done, k in enumerate(reversed(order) if self.config.order == "descending" else order):
            region = subjects.regions[:, k].to(picture)
            one = replace(
                request,
                conditions=(
                    backbone.encode_image(subjects.identities[:, k], "identity"),
                    backbone.encode_image(subjects.spatials[:, k], "spatial"),
                ),
                background=picture,
                region=(region > 0).float(),
                subjects=None,
            )
            made = insertion.sample(backbone, one, counted_on(on_step, before + done * request.steps))
            picture = pasted(picture, made, region)
        return picture
