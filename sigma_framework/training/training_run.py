"""What a run is made of, and how it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_framework.protocols import DataSource, Objective
from sigma_framework.training.curriculum import BatchPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """Everything a run needs, built from a recipe."""

    objective: Objective
    """What is minimised and saved."""
    sources: Mapping[str, DataSource]
    """By the recipe's names."""
    plan: BatchPlan
    """Which examples at which step."""
    folder: Path
    """The run folder; exists, and no other run is in it."""
    weights_folder: Path
    """Where the result is written at the end."""
    recipe_yaml: str
    """The resolved recipe, stored in checkpoints."""
    options: Any
    """The recipe's ``train`` block."""
    hand_overs: tuple[str, ...]
    """Per stage: keep, carry_d or reset."""
    resume_line: str
    """The command that goes on with this run."""
    allow: tuple[str, ...] = ()
    """Keys of the recipe in which it may differ from the run that it goes on with."""

    @property
    def first_process(self) -> bool:
        """Whether this process is the one that writes."""
        return is_first_process()


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How a run ended."""

    steps: int
    validation: tuple[tuple[str, float, float], ...]
    """(stage, fixed validation loss at its start, at its end); NaN where this process did not see it."""
    weights: Path
    """Where the result is; absent until the plan is complete."""
    notes: tuple[str, ...]
    """What people should know, e.g. a damaged checkpoint that was passed over."""
    complete: bool = True
    """False when the time limit ended it before the plan."""


def is_first_process() -> bool:
    """Whether this is the only process or the one that writes; launchers say so in the environment."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))
