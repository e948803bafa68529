"""FLUX.1's timesteps: shifted for the number of the target's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

DEFAULT_SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
"""For a scheduler whose config does not say it."""


def shifted_timesteps(scheduler: Any, count: int, mu: float) -> Tensor:
    """(count + 1,) float32: linspace(1, 1 / count), shifted by ``mu``, then 0.

    Args:
        scheduler: diffusers' ``FlowMatchEulerDiscreteScheduler``; keeps them.
        count: steps.
        mu: how far.

    Raises:
        ValueError: no step.
    """
    if count < 1:
        raise ValueError(f"steps must be at least 1, found {count}")
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / count, count), mu=mu)
    sigmas: Tensor = scheduler.sigmas
    return sigmas.float()


def shift_for(config: Mapping[str, Any], target_length: int) -> float:
    """mu of FLUX.1's schedule: linear in the number of target tokens."""
    value = {name: float(config.get(name, default)) for name, default in DEFAULT_SHIFT.items()}
    slope = (value["max_shift"] - value["base_shift"]) / (value["max_image_seq_len"] - value["base_image_seq_len"])
    return value["base_shift"] + slope * (target_length - value["base_image_seq_len"])
