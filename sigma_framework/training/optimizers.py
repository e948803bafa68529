"""Optimizers by name, the step size they really take, and what is carried from one stage to the next."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, Literal

import torch

from sigma_framework.training.muon import MuonAdamW

_CHANGEABLE = ("betas", "weight_decay", "d_coef", "use_bias_correction", "safeguard_warmup")
HandOver = Literal["keep", "carry_d", "reset"]
"""At a stage's start: keep everything; keep Prodigy's step size but forget the moments; start anew."""


def build_optimizer(options: Any, parameters: Mapping[str, torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer a recipe's ``train.optimizer`` block asks for.

    Prodigy's values are those of its authors for diffusion models and of the OminiControl lineage (section 4.1).
    """
    params = list(parameters.values())
    if options.type == "muon":
        return MuonAdamW(parameters, options.adamw_for, options.lr, tuple(options.betas), options.weight_decay)
    if options.type == "adamw":
        return torch.optim.AdamW(
            params,
            lr=options.lr,
            betas=tuple(options.betas),
            weight_decay=options.weight_decay,
            fused=options.fused or None,
        )
    from prodigyopt import Prodigy

    with redirect_stdout(io.StringIO()):  # it prints that weight decay is decoupled
        made: torch.optim.Optimizer = Prodigy(
            params,
            lr=options.lr,
            betas=tuple(options.betas),
            weight_decay=options.weight_decay,
            d0=options.d0,
            d_coef=options.d_coef,
            use_bias_correction=options.use_bias_correction,
            safeguard_warmup=options.safeguard_warmup,
            slice_p=options.slice_p,
        )
    return made


def chosen_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Per group what a recipe may choose anew in the middle of a run; learned values such as ``d`` are not among it."""
    return [{name: group[name] for name in _CHANGEABLE if name in group} for group in optimizer.param_groups]


def choose_options(optimizer: torch.optim.Optimizer, options: Sequence[Mapping[str, Any]]) -> None:
    """Puts options in the place of those that came with a loaded state, which are those of an earlier recipe.

    Prodigy's ``d`` only grows, so that a smaller ``d_coef``, which it is proportional to, would come too late for it.
    """
    for group, chosen in zip(optimizer.param_groups, options, strict=True):
        if (wanted := chosen.get("d_coef")) != (found := group.get("d_coef")):
            for name in ("d", "d_max"):
                group[name] = max(group["d0"], group[name] * wanted / found)
        group.update(chosen)


def learning_rate_factor(options: Any, step: int, total_steps: int) -> float:
    """Factor on the learning rate at ``step``: linear warm-up, then constant or cosine down to 0."""
    warm = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps > 0 else 1.0
    if options.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total_steps))))
    return warm


def effective_lr(optimizer: torch.optim.Optimizer) -> float:
    """``d * lr``: the step size taken; for optimizers without ``d`` the learning rate."""
    group = optimizer.param_groups[0]
    return float(group.get("d", 1.0)) * float(group["lr"])


def hand_over(optimizer: torch.optim.Optimizer, how: HandOver) -> None:
    """Prepares the optimizer for the next stage, in place (the paper is silent; Prodigy idles after a full reset)."""
    if how == "keep":
        return
    for group in optimizer.param_groups:
        if "k" in group:
            group["k"] = 0  # bias correction must count from the empty moments
        if "d" in group and how == "reset":
            group["d"] = group["d_max"] = group["d0"]
            group["d_numerator"] = 0.0
    every = optimizer.param_groups[0].get("slice_p", 1)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if how == "reset" or name in ("exp_avg", "exp_avg_sq", "step"):
                _clear(state, name, value, parameter.detach().flatten()[::every])


def _clear(state: dict[str, Any], name: str, value: Any, start: torch.Tensor) -> None:
    """Zeroes one entry of the state; Prodigy's starting point becomes the present weights."""
    if isinstance(value, torch.Tensor):
        if name == "p0":  # Prodigy stores a scalar for weights that were all zero
            state[name] = start.clone()
        else:
            value.zero_()
    elif isinstance(value, (int, float)):
        state[name] = type(value)(0)
