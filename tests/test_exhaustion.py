"""A machine that is too small is told in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sigma_framework import Framework
from sigma_framework.errors import RunError
from sigma_framework.exhaustion import told_when_exhausted

CUDA = (
    "CUDA out of memory. Tried to allocate 34.00 GiB. GPU 0 has a total of 23.99 GiB of which 1.2 GiB is free. "
    "If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True."
)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            torch.OutOfMemoryError(CUDA),
            "34.00 GiB. GPU 0 has a total of 23.99 GiB of which 1.2 GiB is free; do less",
        ),
        (MemoryError(), "out of memory: the allocator said no more; do less"),
    ],
)
def test_what_ran_out_and_what_to_do(error: BaseException, found: str) -> None:
    with pytest.raises(RunError) as caught, told_when_exhausted("training", "do less"):
        raise error
    assert found in str(caught.value)
    assert "PYTORCH" not in str(caught.value)


def test_torch_says_so_of_the_cpu() -> None:
    with pytest.raises(RunError, match=r"a test: out of memory: .*; do less"), told_when_exhausted("a test", "do less"):
        torch.empty(1 << 55, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), told_when_exhausted("training", "do less"):
        raise RuntimeError("shapes differ")


def test_generation_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = Framework.load("recipes/generate.yaml", overrides=["sampler.steps=1"])

    def exhausted(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(framework.backbone, "encode_prompt", exhausted)
    with pytest.raises(RunError, match=r"^one image: out of memory: .*backbone.memory=balanced"):
        framework.generate("examples/scenes/boxes.yaml")
