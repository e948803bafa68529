"""The weights of ``insert_anything``: diffusers' own pipelines without their text encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sigma_framework import WeightsError
from sigma_samplers.config import InsertAnythingConfig

_NO_TEXT = {"text_encoder": None, "tokenizer": None, "text_encoder_2": None, "tokenizer_2": None}
_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError)
_LIBRARIES = ("huggingface_hub", "safetensors", "safetensors_rust", "httpx", "httpx2", "requests")
_INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class FillModels:
    """What is loaded once per sampler."""

    fill: Any
    """``FluxFillPipeline``, with its LoRA."""
    redux: Any
    """``FluxPriorReduxPipeline``."""
    first: Any
    """``FluxControlPipeline``; None where the recipe's backbone makes the first picture."""


def load_fill_models(config: InsertAnythingConfig, device: torch.device) -> FillModels:
    """Loads all weights, onto ``device``.

    Raises:
        WeightsError: not found, damaged, of another kind, gated or offline; says which option and what to do.
    """
    from diffusers import FluxControlPipeline, FluxFillPipeline, FluxPriorReduxPipeline

    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    if config.dtype != "auto":
        dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16

    def load(option: str, pipeline: Any, weights: str) -> Any:
        with _told("sampler." + option, weights):
            _reach(weights)
            loaded = pipeline.from_pretrained(weights, dtype=dtype, use_safetensors=True, **_NO_TEXT)
        loaded.set_progress_bar_config(disable=True)
        return loaded.to(device)

    fill = load("weights", FluxFillPipeline, config.weights)
    if config.lora is not None:
        with _told("sampler.lora", config.lora):
            named = {} if config.lora_file is None else {"weight_name": config.lora_file}
            fill.load_lora_weights(config.lora, use_safetensors=True, **named)
    return FillModels(
        fill=fill,
        redux=load("redux", FluxPriorReduxPipeline, config.redux),
        first=None if config.first is None else load("first", FluxControlPipeline, config.first),
    )


def _reach(weights: str) -> None:
    """Fetches a hub id's small index first, so that gates and networks are told before gigabytes move."""
    from huggingface_hub import hf_hub_download

    if not Path(weights).expanduser().is_dir():
        hf_hub_download(weights, _INDEX)


@contextmanager
def _told(option: str, weights: str) -> Iterator[None]:
    """Keeps loading bars away, and says a library's complaint about files in terms of the recipe."""
    from diffusers.utils import logging as diffusers_logging

    bars = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    show: Callable[[], None] = diffusers_logging.enable_progress_bar
    try:
        yield
    except Exception as error:
        if not isinstance(error, _FAULTS) and type(error).__module__.split(".")[0] not in _LIBRARIES:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        page = (
            "" if Path(weights).expanduser().is_dir() else f", accept its licence at https://huggingface.co/{weights}"
        )
        raise WeightsError(
            f"{option}: {weights} cannot be loaded ({type(error).__name__}: {reason}); go online{page} and run "
            f"`hf auth login` or set HF_TOKEN, or name a local copy with {option}=FOLDER"
        ) from error
    finally:
        if bars:
            show()
