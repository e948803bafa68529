"""What samplers share that run several denoising loops for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from sigma_framework import Backbone, OnStep, SampleRequest, SigmaError, SubjectPictures
from sigma_samplers.config import GenerateConfig
from sigma_samplers.generate import GenerateSampler


def require_subjects(request: SampleRequest, sampler: str) -> SubjectPictures:
    """The subjects one by one.

    Raises:
        SigmaError: the request has none.
    """
    if request.subjects is None:
        raise SigmaError(f"{sampler} places one subject after another; its spec needs `subjects` in the request")
    return request.subjects


def first_picture(backbone: Backbone, request: SampleRequest, on_step: OnStep | None) -> torch.Tensor:
    """(b, 3, h, w): the scene's photograph, else what the backbone makes of the prompt alone, without any subject."""
    if request.background is not None:
        return request.background.expand(len(request.generators), -1, -1, -1).to(backbone.device)
    empty = replace(request, conditions=(), subjects=None)
    return GenerateSampler(GenerateConfig()).sample(backbone, empty, on_step)


def counted_on(on_step: OnStep | None, steps_before: int) -> OnStep | None:
    """The same callback, with steps counted through all loops of a call."""
    if on_step is None:
        return None

    def report(step: int, t: float, tensors: dict[str, Any]) -> Mapping[str, Any] | None:
        return on_step(steps_before + step, t, tensors)

    return report


def pasted(old: torch.Tensor, new: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """``new`` where ``region`` (b, h, w) is 1, ``old`` exactly where it is 0, a mixture between."""
    share = region[:, None].to(old)
    return torch.where(share > 0, share * new.to(old) + (1 - share) * old, old)
