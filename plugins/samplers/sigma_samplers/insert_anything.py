"""Insert Anything as a baseline: FLUX.1 Fill on a diptych, Redux in the prompt's place, one subject after another.

Left half: the identity image; right half: a square around the subject's region, which is masked there. The filled
square is pasted back before the next subject comes. The recipe's backbone makes the first picture only when ``first``
is null. The paper's variant also steers each insertion with a depth ControlNet; this one does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sigma_framework import Backbone, OnStep, SampleRequest, SigmaError, SubjectPictures
from sigma_samplers.config import InsertAnythingConfig
from sigma_samplers.diptych import Window, resized, window_around
from sigma_samplers.fill_model import FillModels, load_fill_models
from sigma_samplers.passes import counted_on, first_picture, pasted, require_subjects

TEXT_TOKENS = 512
"""Zeros before Redux's tokens: what ``FluxPriorReduxPipeline`` gives without text encoders."""
STRUCTURE = 2
"""Channel of ``I^C`` that holds the depth (section 3.3)."""


class InsertAnythingSampler:
    """N passes of the Fill model after a first picture; weights are loaded at the first call."""

    def __init__(self, config: InsertAnythingConfig) -> None:
        self.config = config
        self._models: FillModels | None = None

    @torch.no_grad()
    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> Tensor:
        """Images (b, 3, h, w) in [-1, 1]; what no region covers is the first picture, exactly.

        Raises:
            WeightsError: the weights are not here and cannot be had.
            SigmaError: the request does not have its subjects one by one.
        """
        subjects = require_subjects(request, "insert_anything")
        models = self._models = self._models or load_fill_models(self.config, backbone.device)
        before = 0 if request.background is not None else request.steps
        if models.first is None or request.background is not None:
            picture = first_picture(backbone, request, on_step)
        else:
            picture = self._from_depth(models.first, request, subjects, on_step)
        for k in range(subjects.count):
            region = subjects.regions[:, k].to(picture)
            report = counted_on(on_step, before + k * request.steps)
            identity = subjects.identities[:, k].to(picture)
            picture = self._insert(models, picture, identity, region, request, report)
        return picture

    def _insert(
        self,
        models: FillModels,
        picture: Tensor,
        identity: Tensor,
        region: Tensor,
        request: SampleRequest,
        on_step: OnStep | None,
    ) -> Tensor:
        """The picture (b, 3, h, w) with one subject in its region (b, h, w)."""
        side = self.config.side
        windows = [window_around(one, self.config.margin) for one in region]
        squares = [resized(window.cut(one), side) for window, one in zip(windows, picture, strict=True)]
        holes = [
            resized((window.cut(one[None]) > 0).float(), side, "nearest")
            for window, one in zip(windows, region, strict=True)
        ]
        references = torch.stack([resized(one, side) for one in identity])
        embeds, pooled = redux_prompt(models, identity)
        filled = models.fill(
            image=(torch.cat([references, torch.stack(squares)], dim=-1).clamp(-1, 1) + 1) / 2,
            mask_image=torch.cat([torch.zeros_like(torch.stack(holes)), torch.stack(holes)], dim=-1),
            prompt_embeds=embeds,
            pooled_prompt_embeds=pooled,
            height=side,
            width=2 * side,
            num_inference_steps=request.steps,
            guidance_scale=self.config.guidance,
            generator=list(request.generators),
            output_type="pt",
            callback_on_step_end=_callback(on_step),
        ).images
        made = _put_back(windows, picture, filled[..., side:].to(picture) * 2 - 1)
        return pasted(picture, made, region)

    def _from_depth(
        self, pipeline: Any, request: SampleRequest, subjects: SubjectPictures, on_step: OnStep | None
    ) -> Tensor:
        """Depth of the scene to a picture, with the text that the recipe's backbone encoded."""
        wanted = pipeline.transformer.config
        text, pooled = request.text.values, request.text.pooled
        if pooled is None or (text.shape[-1], pooled.shape[-1]) != (
            wanted.joint_attention_dim,
            wanted.pooled_projection_dim,
        ):
            raise SigmaError(
                f"sampler.first: {self.config.first} reads other text than this backbone encodes; write first: null, "
                "or use a backbone with FLUX.1's text encoders"
            )
        depth = (subjects.spatial[:, STRUCTURE : STRUCTURE + 1].expand(-1, 3, -1, -1) + 1) / 2
        height, width = request.size_hw
        made = pipeline(
            control_image=depth,
            prompt_embeds=text.to(pipeline.transformer.dtype),
            pooled_prompt_embeds=pooled.to(pipeline.transformer.dtype),
            height=height,
            width=width,
            num_inference_steps=request.steps,
            guidance_scale=self.config.first_guidance,
            generator=list(request.generators),
            output_type="pt",
            callback_on_step_end=_callback(on_step),
        ).images
        return made.float().clamp(0, 1) * 2 - 1


def redux_prompt(models: FillModels, identity: Tensor) -> tuple[Tensor, Tensor]:
    """((b, 512 + l, d), (b, p)): what Redux makes of identity images (b, 3, s, s), after an empty text.

    ``FluxPriorReduxPipeline`` called whole would do the same for FLUX.1's widths alone.
    """
    redux, config = models.redux, models.fill.transformer.config
    dtype, device = models.fill.transformer.dtype, models.fill.transformer.device
    pixels = ((identity.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    seen = redux.encode_image([one.numpy() for one in pixels], device, 1)
    tokens = redux.image_embedder(seen).image_embeds.to(dtype)
    empty = tokens.new_zeros(len(tokens), TEXT_TOKENS, tokens.shape[-1])
    return torch.cat([empty, tokens], dim=1), tokens.new_zeros(len(tokens), config.pooled_projection_dim)


def _put_back(windows: Sequence[Window], picture: Tensor, squares: Tensor) -> Tensor:
    return torch.stack(
        [
            window.put(one, resized(square, window.side).to(one))
            for window, one, square in zip(windows, picture, squares, strict=True)
        ]
    )


def _callback(on_step: OnStep | None) -> Any:
    """diffusers' callback: ours sees the t that follows the step, and may replace the latents."""
    if on_step is None:
        return None

    def end(pipeline: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return dict(on_step(step, float(pipeline.scheduler.sigmas[step + 1]), {"latents": tensors["latents"]}) or {})

    return end
