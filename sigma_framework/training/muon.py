"""Muon for matrices, AdamW for the rest, in one optimizer: small models trained from scratch learn faster with it.

Momentum is orthogonalised before it is applied (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural
networks"), scaled so that its root mean square is that of an AdamW update (Liu et al. 2025, arXiv:2502.16982), so that
one learning rate serves both. PyTorch's own ``Muon`` takes matrices alone; a run here has one optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
"""Of the matrices' gradients, Nesterov style."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic iteration that brings singular values near 1 in five rounds (Jordan et al. 2024)."""
ROUNDS = 5
RMS = 0.2
"""Root mean square of an AdamW update, which a matrix's update is scaled to (Liu et al. 2025, section 2.2)."""
EPSILON = 1e-8


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer with two rules.

    Args:
        parameters: what is trained, by name.
        adamw_for: patterns of names that AdamW updates although they are matrices: embeddings and output layers.
        lr: learning rate of both rules.
        betas: AdamW's decays.
        weight_decay: decoupled, for both rules.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        adamw_for: tuple[str, ...],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        def is_matrix(name: str, value: Tensor) -> bool:
            return value.ndim >= 2 and not any(fnmatchcase(name, pattern) for pattern in adamw_for)

        matrices = [value for name, value in parameters.items() if is_matrix(name, value)]
        others = [value for name, value in parameters.items() if not is_matrix(name, value)]
        groups = [{"params": matrices, "rule": "muon"}, {"params": others, "rule": "adamw"}]
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; parameters without a gradient are left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rule = _muon_update if group["rule"] == "muon" else _adamw_update
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = rule(parameter.grad, self.state[parameter], group["betas"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
        return loss


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest matrix whose singular values are about 1, (r, c), by Newton-Schulz rounds in bfloat16."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    flat: Tensor = x.T if tall else x
    return flat.to(matrix.dtype)


def _muon_update(gradient: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> Tensor:
    """A kernel of a convolution counts as one matrix of (out, in * height * width)."""
    if not state:
        state["exp_avg"] = torch.zeros_like(gradient)
    momentum = state["exp_avg"]
    momentum.lerp_(gradient, 1 - MOMENTUM)
    matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
    scale = RMS * math.sqrt(max(matrix.shape))
    return orthogonalised(matrix).mul_(scale).view_as(gradient)


def _adamw_update(gradient: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> Tensor:
    if not state:
        state["step"] = torch.zeros(())
        state["exp_avg"] = torch.zeros_like(gradient)
        state["exp_avg_sq"] = torch.zeros_like(gradient)
    state["step"] += 1
    state["exp_avg"].lerp_(gradient, 1 - betas[0])
    state["exp_avg_sq"].lerp_(gradient.square(), 1 - betas[1])
    count = float(state["step"])
    spread = (state["exp_avg_sq"] / (1 - betas[1] ** count)).sqrt_().add_(EPSILON)
    update: Tensor = state["exp_avg"] / (1 - betas[0] ** count) / spread
    return update
