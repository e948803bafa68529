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
_HOST = ("not enough memory", "can't allocate memory")
"""How torch's allocator of the CPU begins or continues its message; it has no class of its own."""


@contextmanager
def told_when_exhausted(doing: str, less: str) -> Iterator[None]:
    """Turns out-of-memory errors into one line.

    Args:
        doing: what was going on, e.g. "training".
        less: what asks less of the machine.

    Raises:
        RunError: the work within ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(f"{doing}: out of memory: {_facts(error)}; {less}") from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _HOST):
            raise
        raise RunError(f"{doing}: out of memory: {_facts(error)}; {less}") from error


def _facts(error: BaseException) -> str:
    """What was asked for and what was free, without torch's advice about its own settings."""
    sentences = re.split(r"(?<=\.)\s+", " ".join(str(error).split()))
    return " ".join(sentences[:3]).rstrip(".") or "the allocator said no more"
