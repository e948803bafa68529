"""Failures that say that the machine is too small for what was asked, told as errors of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sigma_framework.errors import RunError

LESS_TO_GENERATE = (
    "make fewer or smaller images at once, or write backbone.memory=balanced or low where the base has it"
)
LESS_TO_TRAIN = (
    "lower train.batch_size, raise train.accumulate, or write backbone.gradient_checkpointing=true where the base has "
    "it; the same command goes on from the last checkpoint (a changed recipe needs --allow train)"
)
LESS_TO_LOAD = (
    "often memory ran out: lower train.num_workers; the same command goes on from the last checkpoint "
    "(a changed recipe needs --allow train)"
)
_HOST = ("not enough memory", "can't allocate memory")
"""How torch's allocator of the CPU begins or continues its message; it has no class of its own."""


@contextmanager
def told_when_exhausted(doing: str, less: str) -> Iterator[None]:
    """Turns out-of-memory errors, and the loss of a process that loads data, into one line.

    Args:
        doing: what was going on, e.g. "training".
        less: what asks less of the machine.

    Raises:
        RunError: the work within ran out of memory, or a worker was killed.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(f"{doing}: out of memory: {_facts(error)}; {less}") from error
    except RuntimeError as error:
        text = str(error)
        if text.startswith("DataLoader worker"):
            raise RunError(f"{doing}: a process that loads data was killed: {_facts(error)}; {LESS_TO_LOAD}") from error
        if any(sign in text for sign in _HOST):
            raise RunError(f"{doing}: out of memory: {_facts(error)}; {less}") from error
        raise


def _facts(error: BaseException) -> str:
    """What was asked for and what was free, without torch's advice about its own settings."""
    sentences = re.split(r"(?<=\.)\s+", " ".join(str(error).split()))
    return " ".join(sentences[:3]).rstrip(".") or "the allocator said no more"
