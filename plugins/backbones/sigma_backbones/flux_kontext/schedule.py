"""How far FLUX.1's timesteps are shifted: by the number of the target's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
"""For a scheduler whose config does not say it."""


def shift_for(config: Mapping[str, Any], target_length: int) -> float:
    """mu of FLUX.1's schedule: linear in the number of target tokens."""
    value = {name: float(config.get(name, default)) for name, default in DEFAULT_SHIFT.items()}
    slope = (value["max_shift"] - value["base_shift"]) / (value["max_image_seq_len"] - value["base_image_seq_len"])
    return value["base_shift"] + slope * (target_length - value["base_image_seq_len"])
