"""Faster kernels that change nothing beyond rounding: attention backends of diffusers, torch.compile block by block."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

import torch

from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_framework import WeightsError


def use_kernels(transformer: Any, config: FluxKontextConfig) -> None:
    """Switches on what the options name; attention processors that a user sets later are left as they are.

    Raises:
        WeightsError: a name that is not known, or a backend whose package or device is not here.
    """
    if config.attention is not None:
        _use_attention(transformer, config.attention)
    if config.compile is not None:
        _compile(transformer, config.compile)


def _use_attention(transformer: Any, name: str) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend

    known = sorted(backend.value for backend in AttentionBackendName)
    if name not in known:
        raise WeightsError(
            f"backbone.attention: found {name}, expected a backend of diffusers; {_nearest(name, known)}"
        )
    try:
        with attention_backend(AttentionBackendName.NATIVE):  # it also changes the process's default; this puts it back
            transformer.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        raise WeightsError(
            f"backbone.attention: {name} cannot be used here ({error}); install what it needs, or write null"
        ) from error
    if name == "_native_math":  # else it computes bfloat16 in float32, on CPUs too, whatever the switch's name says
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


def _compile(transformer: Any, backend: str) -> None:
    """Each kind of block once, for any number of tokens: N = 1 to 10 share one compilation."""
    from torch import _dynamo

    known = _dynamo.list_backends(None)
    if backend not in known:
        raise WeightsError(
            f"backbone.compile: found {backend}, expected a backend of torch.compile; {_nearest(backend, known)}"
        )
    transformer.compile_repeated_blocks(backend=backend, dynamic=True)


def _nearest(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
