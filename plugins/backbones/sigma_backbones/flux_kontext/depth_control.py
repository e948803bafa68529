"""Depth through an external network instead of tokens: the last row of the paper's comparison (Table 3).

The structure channel of ``I^C`` becomes zero, and the depth that it held goes through diffusers'
``FluxControlNetModel``, whose residuals are added to the target's tokens alone. A scene's ``structure`` gives the depth
of the whole picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sigma_backbones.checkpoint_parts import CheckpointParts
from sigma_backbones.checkpoint_source import quiet_libraries
from sigma_backbones.flux_kontext.step_inputs import StepInputs
from sigma_framework import WeightsError

STRUCTURE_CHANNEL = 2
"""Channel of ``I^C`` that holds the depth (section 3.3)."""
NOTHING = -1.0
"""A channel of zeros, in [-1, 1]."""
UNION_DEPTH = 2
"""Number of depth among the modes of the union networks (canny, tile, depth, blur, pose, gray, low quality)."""


def load_control(weights: str, dtype: torch.dtype) -> Any:
    """A ``FluxControlNetModel`` from a diffusers folder or a hub id, frozen.

    Raises:
        WeightsError: it is not there, gated, not complete or no such network.
    """
    from diffusers import FluxControlNetModel

    folder = Path(weights).expanduser()
    where = "folder" if folder.is_dir() else "hub"
    source = str(folder) if where == "folder" else weights
    checkpoint = CheckpointParts(weights=weights, source=source, where=where, key="backbone.depth_control")
    with quiet_libraries():
        found = checkpoint.config(FluxControlNetModel, None).get("_class_name")
        if found != "FluxControlNetModel":
            raise WeightsError(
                f"backbone.depth_control: {weights}: found a {found}, expected a FluxControlNetModel: a diffusers "
                "folder or a hub id such as Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0"
            )
        network = checkpoint.model(FluxControlNetModel, None, torch_dtype=dtype)
    return network.requires_grad_(False).eval()


def split_structure(images: Tensor) -> tuple[Tensor, Tensor]:
    """``I^C`` (b, 3, h, w) -> itself without structure, and the structure as a grey picture (b, 3, h, w)."""
    depth = images[:, STRUCTURE_CHANNEL : STRUCTURE_CHANNEL + 1].expand(-1, 3, -1, -1)
    without = images.clone()
    without[:, STRUCTURE_CHANNEL] = NOTHING
    return without, depth


def residuals(
    network: Any, x: Tensor, ids: Tensor, t: Tensor, guidance: Tensor | None, inputs: StepInputs, scale: float
) -> dict[str, list[Tensor] | None]:
    """Arguments of the transformer: what the network adds after its blocks, zero for the tokens of conditions.

    Args:
        network: ``FluxControlNetModel``.
        x: (b, l, 64) the target's noisy tokens, in the transformer's numbers.
        ids: (l, 3) of the target alone.
        t: (b,) in [0, 1].
        guidance: (b,) for networks that read one.
        inputs: text, and the latents of the depth.
        scale: strength of the residuals.
    """
    union = bool(getattr(network, "union", False))
    double, single = network(
        hidden_states=x,
        controlnet_cond=inputs.control,
        controlnet_mode=torch.full((x.shape[0], 1), UNION_DEPTH, device=x.device) if union else None,
        conditioning_scale=scale,
        encoder_hidden_states=inputs.text,
        pooled_projections=inputs.pooled,
        timestep=t,
        img_ids=ids,
        txt_ids=inputs.text_ids,
        guidance=guidance if network.config.guidance_embeds else None,
        return_dict=False,
    )
    conditions = 0 if inputs.conditions is None else inputs.conditions.shape[1]
    return {
        "controlnet_block_samples": _padded(double, conditions),
        "controlnet_single_block_samples": _padded(single, conditions),
    }


def _padded(samples: Sequence[Tensor] | None, conditions: int) -> list[Tensor] | None:
    """Zeros behind the target's tokens, one per token of a condition."""
    if samples is None:
        return None
    return [torch.nn.functional.pad(sample, (0, 0, 0, conditions)) for sample in samples]
