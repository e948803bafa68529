"""One Euler step of the flow: t = 1 is noise, velocity = eps - x_0, so time runs down (section 3)."""

from __future__ import annotations

import torch

from sigma_framework import Backbone, SampleRequest, Tokens


def predict_velocity(backbone: Backbone, x: Tokens, t: float, request: SampleRequest) -> torch.Tensor:
    """Velocity of ``x`` (b, l, d) at time ``t``, with classifier-free guidance when the request asks for it.

    Guided velocity: ``v_neg + true_cfg * (v - v_neg)``, as diffusers does; conditions stay in both passes.
    """
    times = torch.full((x.values.shape[0],), t, dtype=torch.float32, device=x.values.device)
    velocity = backbone.velocity(x, times, request.text, request.conditions, request.guidance)
    if request.negative_text is None or request.true_cfg == 1.0:
        return velocity
    negative = backbone.velocity(x, times, request.negative_text, request.conditions, request.guidance)
    return negative + request.true_cfg * (velocity - negative)


def euler_step(values: torch.Tensor, velocity: torch.Tensor, t: float, t_next: float) -> torch.Tensor:
    """``x + (t_next - t) v`` in float32, given back in the dtype of ``values``."""
    return (values.float() + (t_next - t) * velocity.float()).to(values.dtype)
