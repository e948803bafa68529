"""Timesteps of diffusers' flow-matching scheduler, shifted towards noise by a backbone's own rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


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
