"""Randomness by position: every draw of an example follows from (seed, stage, position), never from what ran before.

Workers, process count and a resume therefore change nothing.
"""

from __future__ import annotations

import random

import numpy as np
import torch

TRAINING, ORDER, VALIDATION, PICTURES, AMBIENT = range(5)
"""What a stream of randomness is for; keeps the streams apart."""


def position_entropy(seed: int, purpose: int, stage: int, position: int) -> int:
    """A 63-bit seed for one position of one stage."""
    sequence = np.random.SeedSequence((seed, purpose, stage, position))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_ambient(seed: int, purpose: int, stage: int, position: int) -> None:
    """Puts the generators that a layer may draw from by itself (dropout) where this position has them.

    The core draws from none of them; a component might. Seeded at every step, they need no place in a checkpoint and
    are the same after a resume with another number of processes.
    """
    entropy = position_entropy(seed, AMBIENT, (stage << 3) + purpose, position)
    torch.default_generator.manual_seed(entropy)
    if torch.accelerator.is_available():  # torch.manual_seed formats a stack for each kind that is not: 1 ms a step
        module = torch.get_device_module(torch.accelerator.current_accelerator())
        getattr(module, "manual_seed_all", module.manual_seed)(entropy)
    random.seed(entropy)
    np.random.seed(entropy & 0xFFFFFFFF)  # the one such a component would use


def torch_generator(seed: int, purpose: int, stage: int, position: int) -> torch.Generator:
    """A CPU generator for one position."""
    return torch.Generator("cpu").manual_seed(position_entropy(seed, purpose, stage, position))


def numpy_generator(seed: int, purpose: int, stage: int, position: int) -> np.random.Generator:
    """A NumPy generator for one position."""
    return np.random.default_rng(np.random.SeedSequence((seed, purpose, stage, position)))


def numpy_from_torch(generator: torch.Generator) -> np.random.Generator:
    """A NumPy generator seeded by one draw from a torch generator, for the parts of an example made with NumPy."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
