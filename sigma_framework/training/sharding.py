"""A frozen base spread over processes: each holds a part of every block and borrows the rest while the block computes.

The adapter is whole in every process and its gradients travel as in DDP, so that optimizers, clipping, checkpoints and
a resume with another number of processes are the same with and without.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from sigma_framework.errors import RunError


def repeated_blocks(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The outermost members of lists of one kind of module: what a transformer and text encoders consist of."""
    for child in module.children():
        members = list(child) if isinstance(child, torch.nn.ModuleList) else []
        if len(members) > 1 and len({type(one) for one in members}) == 1:
            yield from members
        else:
            yield from repeated_blocks(child)


def shard_frozen(
    modules: Collection[torch.nn.Module], trained: Collection[torch.nn.Parameter], device: torch.device
) -> tuple[int, int]:
    """Spreads the frozen weights of repeated blocks over all processes; everything else stays whole.

    Args:
        modules: an objective's, on ``device``.
        trained: weights that stay whole.
        device: of this process.

    Returns:
        Bytes of the frozen weights in all, and of those that this process holds now.

    Raises:
        RunError: this torch cannot leave weights out.
    """
    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise RunError(f"train.strategy: fsdp needs torch 2.7 or later, found {torch.__version__}; write ddp")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    known = {id(parameter) for parameter in trained}
    whole = sum(_bytes_of(one) for module in modules for one in module.parameters() if id(one) not in known)
    for module in modules:
        for block in repeated_blocks(module):
            if any(id(parameter) not in known for parameter in block.parameters()):
                fully_shard(block, mesh=mesh, ignored_params=set(trained))
    frozen = [one for module in modules for one in module.parameters() if id(one) not in known]
    return whole, sum(_bytes_of(one.to_local() if isinstance(one, DTensor) else one) for one in frozen)


def _bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
