"""One Euler step of the flow: t = 1 is noise, velocity = eps - x_0, so time runs down (section 3)."""

from __future__ import annotations

import torch

from sigma_framework import AdapterDimmer, Backbone, PluginError, SampleRequest, TextTokens, Tokens
from sigma_samplers.config import AdapterGuidance

OFF = AdapterGuidance()
"""No second pass."""


def predict_velocity(
    backbone: Backbone, x: Tokens, t: float, request: SampleRequest, adapter_guidance: AdapterGuidance = OFF
) -> torch.Tensor:
    """Velocity of ``x`` (b, l, d) at time ``t``, with the guidance that the request and the sampler's options ask for.

    Classifier-free: ``v_neg + true_cfg * (v - v_neg)``, as diffusers does; conditions stay in both passes. Away from
    weaker adapters: ``(scale - 1) * (v - v_weak)`` on top, both under the prompt.

    Raises:
        PluginError: the backbone cannot weaken its adapters.
    """
    times = torch.full((x.values.shape[0],), t, dtype=torch.float32, device=x.values.device)

    def predict(text: TextTokens) -> torch.Tensor:
        return backbone.velocity(x, times, text, request.conditions, request.guidance)

    weak = None
    if adapter_guidance.acts_at(t):  # first, so that nothing is fused for one pass
        with _dimmer(backbone).dim_adapters(adapter_guidance.weak):
            weak = predict(request.text)
    velocity = guided = predict(request.text)
    if request.negative_text is not None and request.true_cfg != 1.0:
        negative = predict(request.negative_text)
        guided = negative + request.true_cfg * (velocity - negative)
    return guided if weak is None else guided + (adapter_guidance.scale - 1) * (velocity - weak)


def _dimmer(backbone: Backbone) -> AdapterDimmer:
    if not isinstance(backbone, AdapterDimmer):
        raise PluginError(
            f"sampler.adapter_guidance: {type(backbone).__name__} cannot weaken its adapters (it has no dim_adapters); "
            "write sampler.adapter_guidance.scale=1"
        )
    return backbone


def euler_step(values: torch.Tensor, velocity: torch.Tensor, t: float, t_next: float) -> torch.Tensor:
    """``x + (t_next - t) v`` in float32, given back in the dtype of ``values``."""
    return (values.float() + (t_next - t) * velocity.float()).to(values.dtype)
