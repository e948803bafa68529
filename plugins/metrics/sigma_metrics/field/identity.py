"""Does each region show its own subject: cosine of image embeddings, by DINOv2 and by SigLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sigma_framework import Result, Scene
from sigma_metrics.field.config import DINO, SIGLIP, DinoIConfig, SiglipIConfig
from sigma_metrics.field.crops import identity_pictures, subject_crops
from sigma_metrics.field.pretrained import Pretrained, find_model, load_model, pooled, variant_name

Encode = Callable[[Sequence[Image.Image]], Tensor]


class DinoI:
    """Mean over subjects of 100 times the cosine between the crop at a subject's box and its identity image."""

    def __init__(self, config: DinoIConfig) -> None:
        self._config = config
        self._place = find_model("dino_i", config.weights, config.revision, config.device)
        pooling = "" if config.pooling == "cls" else f"{config.pooling} of patches"
        self._name = variant_name("dino_i", config.weights, DINO, pooling, label=config.label)
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        self._values += likenesses(result, self._encode)

    def compute(self) -> Mapping[str, Sequence[float]]:
        """-100 to 100, higher is better."""
        return {self._name: tuple(self._values)}

    def facts(self) -> Mapping[str, Any]:
        """What the number was made with."""
        return {**load_model(self._place).facts, "pooling": self._config.pooling}

    @torch.no_grad()
    def _encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        encoder = load_model(self._place)
        tokens = torch.cat([encoder.model(pixel_values=encoder.pixels([one])).last_hidden_state for one in pictures])
        return tokens[:, 0] if self._config.pooling == "cls" else tokens[:, 1:].mean(dim=1)


class SiglipI:
    """As ``DinoI``, by SigLIP's image embedding."""

    def __init__(self, config: SiglipIConfig) -> None:
        self._place = find_model("siglip_i", config.weights, config.revision, config.device)
        self._name = variant_name("siglip_i", config.weights, SIGLIP, label=config.label)
        self._values: list[float] = []

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        self._values += likenesses(result, lambda pictures: image_features(load_model(self._place), pictures))

    def compute(self) -> Mapping[str, Sequence[float]]:
        """-100 to 100, higher is better."""
        return {self._name: tuple(self._values)}

    def facts(self) -> Mapping[str, Any]:
        """What the number was made with."""
        return load_model(self._place).facts


def likenesses(result: Result, encode: Encode) -> list[float]:
    """One value per image of the result: mean over subjects of cosine x 100.

    Args:
        result: with N subjects.
        encode: pictures -> (b, d), of any length.
    """
    wanted = functional.normalize(encode(identity_pictures(result)).float(), dim=-1)
    values = []
    for number in range(len(result.images)):
        found = functional.normalize(encode(subject_crops(result, number)).float(), dim=-1)
        values.append(float((100 * (found * wanted).sum(dim=-1)).mean()))
    return values


@torch.no_grad()
def image_features(model: Pretrained, pictures: Sequence[Image.Image]) -> Tensor:
    """(b, d) embeddings of a model of images and texts; each picture alone, so that none depends on its neighbours."""
    return torch.cat([pooled(model.model.get_image_features(pixel_values=model.pixels([one]))) for one in pictures])
