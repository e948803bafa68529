"""Does the image show what the prompt says: cosine of SigLIP's image and text embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sigma_framework import Result, Scene
from sigma_metrics.field.config import SIGLIP, SiglipTConfig
from sigma_metrics.field.identity import image_features
from sigma_metrics.field.pretrained import Pretrained, find_model, load_model, load_tokenizer, pooled, variant_name


class SiglipT:
    """100 times the cosine between the whole image and the scene's prompt, as it was written there."""

    def __init__(self, config: SiglipTConfig) -> None:
        self._place = find_model("siglip_t", config.weights, config.revision, config.device)
        self._name = variant_name("siglip_t", config.weights, SIGLIP, label=config.label)
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        model = load_model(self._place)
        wanted = functional.normalize(text_features(model, load_tokenizer(self._place), [scene.prompt]).float(), dim=-1)
        found = functional.normalize(image_features(model, result.images).float(), dim=-1)
        self._values += (100 * (found * wanted).sum(dim=-1)).tolist()

    def compute(self) -> Mapping[str, Sequence[float]]:
        """-100 to 100, higher is better; SigLIP's cosines are small, 10 to 20 is much."""
        return {self._name: tuple(self._values)}

    def facts(self) -> Mapping[str, Any]:
        """What the number was made with."""
        return load_model(self._place).facts


@torch.no_grad()
def text_features(model: Pretrained, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """(b, d); texts are padded to the model's own length, as SigLIP was trained."""
    longest = model.model.config.text_config.max_position_embeddings
    read = tokenizer(list(texts), padding="max_length", truncation=True, max_length=longest, return_tensors="pt")
    return pooled(model.model.get_text_features(input_ids=read["input_ids"].to(model.device)))
