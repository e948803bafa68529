"""How good an image looks, without a reference: CLIP-IQA; and what is asked of pyiqa."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.nn import functional

from sigma_framework import PluginError, Result, Scene
from sigma_metrics.field.config import ClipIqaConfig
from sigma_metrics.field.identity import image_features
from sigma_metrics.field.pretrained import (
    Pretrained,
    choose_device,
    find_model,
    load_model,
    load_tokenizer,
    pooled,
    variant_name,
)

EXTRA = "iqa-noncommercial"
"""The extra that brings pyiqa; nothing else asks for it."""


class ClipIqa:
    """100 times the probability of the good one of two opposite prompts (Wang et al. 2023).

    The plain name ``clip_iqa`` is kept for the authors' ResNet (pyiqa's); CLIP of transformers has its own in brackets.
    """

    def __init__(self, config: ClipIqaConfig) -> None:
        self._config = config
        self._values: list[float] = []
        if config.implementation == "pyiqa":
            self._name = "clip_iqa"
            import_pyiqa("clip_iqa")
            return
        self._place = find_model("clip_iqa", config.weights, config.revision, config.device)
        other = "" if config.prompts == ClipIqaConfig.prompts else "other prompts"
        self._name = variant_name("clip_iqa", config.weights, None, other, label=config.label)

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        if self._config.implementation == "pyiqa":
            self._values += [100 * value for value in pyiqa_scores("clipiqa", None, self._config.device, result)]
            return
        model = load_model(self._place)
        good = functional.normalize(
            _prompt_features(model, load_tokenizer(self._place), self._config.prompts).float(), dim=-1
        )
        found = functional.normalize(image_features(model, result.images).float(), dim=-1)
        for one in found:
            odds = (model.model.logit_scale.exp() * (good * one).sum(dim=-1)).softmax(dim=-1)
            self._values.append(float(100 * odds[0]))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """0 to 100, higher is better."""
        return {self._name: tuple(self._values)}

    def facts(self) -> Mapping[str, Any]:
        """What the number was made with."""
        if self._config.implementation == "pyiqa":
            return pyiqa_facts("clipiqa")
        return {**load_model(self._place).facts, "prompts": list(self._config.prompts)}


@torch.no_grad()
def _prompt_features(model: Pretrained, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """(b, d) of CLIP's text encoder, with the padding masked."""
    read = tokenizer(list(prompts), padding=True, return_tensors="pt").to(model.device)
    return pooled(model.model.get_text_features(input_ids=read["input_ids"], attention_mask=read.get("attention_mask")))


@torch.no_grad()
def pyiqa_scores(model: str, weights: str | None, device: str, result: Result) -> list[float]:
    """One value per image, by a measure of pyiqa."""
    measure = _create(model, weights, choose_device(device))
    values = []
    for image in result.images:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        values.append(float(measure(pixels)))
    return values


@functools.lru_cache(maxsize=4)
def _create(model: str, weights: str | None, device: str) -> Any:
    options = {} if weights is None else {"pretrained_model_path": weights}
    return import_pyiqa(model).create_metric(model, device=torch.device(device), as_loss=False, **options)


def pyiqa_facts(model: str) -> Mapping[str, Any]:
    """What a number of pyiqa was made with."""
    import importlib.metadata

    return {"model": model, "preprocessing": f"pyiqa {importlib.metadata.version('pyiqa')}, Pillow {PIL.__version__}"}


def import_pyiqa(metric: str) -> Any:
    """The package.

    Raises:
        PluginError: it is not installed.
    """
    try:
        import pyiqa
    except ImportError as error:
        raise PluginError(
            f"{metric}: pyiqa is not installed ({error}). Its licence (PolyForm Noncommercial) allows no commercial "
            f"use, so nothing here depends on it; if that suits you: pip install 'sigma-framework[{EXTRA}]'. "
            "Otherwise leave out implementation, without which clip_iqa and musiq need no pyiqa"
        ) from error
    return pyiqa
