"""What the processes of a run tell one another once per step, so that all of them decide the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

OUT_OF_TIME = -1
"""Stop code of the recipe's time limit; other codes are signal numbers, 0 is none."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step as all processes saw it."""

    loss: float
    """Mean over the examples of the whole step."""
    gradient_norm: float
    """Before clipping."""
    examples: int
    """Examples of the whole step."""
    stop: int
    """0, a signal number, or ``OUT_OF_TIME``; equal in all processes."""

    @property
    def finite(self) -> bool:
        """Whether the step may update the weights."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class Ranks:
    """Small messages between the CPUs of all processes; a single process answers itself.

    The group is gloo's, also where gradients travel by NCCL: the accelerators never wait for it.
    """

    def __init__(self) -> None:
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.count = dist.get_world_size() if several else 1
        self._group: Any = dist.new_group(backend="gloo") if several else None

    def agree(self, loss: float, examples: int, gradient_norm: float, stop: int) -> StepReport:
        """Joins what each process says of its share of a step.

        Args:
            loss: mean over this process's examples.
            examples: how many they are.
            gradient_norm: of the reduced gradient, before clipping.
            stop: this process's wish.
        """
        if self._group is None:
            return StepReport(loss, gradient_norm, examples, stop)
        mine = torch.tensor([loss * examples, examples, gradient_norm, stop], dtype=torch.float64)
        rows = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(rows, mine, group=self._group)
        said = torch.stack(rows)
        total = int(said[:, 1].sum())
        wishes = [int(one) for one in said[:, 3] if one]
        worst = float(said[:, 2].max()) if bool(torch.isfinite(said[:, 2]).all()) else math.nan
        return StepReport(float(said[:, 0].sum()) / total, worst, total, wishes[0] if wishes else 0)

    def join(self, names: Sequence[str]) -> list[str]:
        """All processes' names, in the order of their ranks; every process must call it."""
        if self._group is None:
            return list(names)
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, list(names), group=self._group)
        return [name for part in gathered for name in part]
