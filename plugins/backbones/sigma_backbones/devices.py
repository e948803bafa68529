"""What ``auto`` means for a device and for the numbers of frozen weights."""

from __future__ import annotations

import os

import torch

NUMBERS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""By the names that recipes use."""


def choose_device(name: str) -> torch.device:
    """``auto``: this process's accelerator, by the number that torchrun, Lightning or srun gave it, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", _local_rank() % torch.cuda.device_count())
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: float32 on the CPU, where 16-bit arithmetic is slow, else bfloat16."""
    if name != "auto":
        return NUMBERS[name]
    return torch.float32 if device.type == "cpu" else torch.bfloat16
