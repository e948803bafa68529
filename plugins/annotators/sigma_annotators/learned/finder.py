"""Finds what a caption names: boxes by GroundingDINO, masks by SAM, both of transformers, without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_annotators.learned.config import FinderConfig
from sigma_annotators.learned.weights import place_of, read_weights, told_name

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """One subject in one picture."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 of the detection, pixels, within the picture."""
    score: float
    """Of the detection, 0..1."""
    mask: Mask
    """(H, W); has pixels."""


class SubjectFinder:
    """Both models on one device.

    Args:
        option: the annotator's name, for messages.
        config: models and thresholds.
        device: option.
        dtype: option.

    Raises:
        WeightsError: a model cannot be read.
    """

    def __init__(self, option: str, config: FinderConfig, device: str, dtype: str) -> None:
        self.config = config
        self._place, number = place_of(option, device, dtype)

        def read_detector(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
            from transformers import (
                AutoTokenizer,
                GroundingDinoForObjectDetection,
                GroundingDinoImageProcessorPil,
                GroundingDinoProcessor,
            )

            pictures = GroundingDinoImageProcessorPil.from_pretrained(source, **options)
            processor = GroundingDinoProcessor(pictures, AutoTokenizer.from_pretrained(source, **options))
            return processor, GroundingDinoForObjectDetection.from_pretrained(source, dtype=number, **options)

        def read_masks(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
            from transformers import SamImageProcessorPil, SamModel, SamProcessor

            processor = SamProcessor(SamImageProcessorPil.from_pretrained(source, **options))
            return processor, SamModel.from_pretrained(source, dtype=number, **options)

        self._words, detector = read_weights(
            f"{option}: finder.detector", config.detector, config.detector_revision, read_detector
        )
        self._outlines, masks = read_weights(f"{option}: finder.masks", config.masks, config.masks_revision, read_masks)
        self._detector, self._masks = (model.to(self._place).eval() for model in (detector, masks))
        self.names = {
            "detector": told_name(config.detector, detector, config.detector_revision),
            "masks": told_name(config.masks, masks, config.masks_revision),
        }

    def find(self, picture: Rgb, captions: Sequence[str]) -> list[Found | None]:
        """The surest detection of each caption, None where there is none.

        Args:
            picture: (H, W, 3) uint8.
            captions: one subject each; each is looked for by itself.
        """
        boxes = [self._box(picture, caption) for caption in captions]
        seen = [k for k, box in enumerate(boxes) if box is not None]
        masks = self._mask(picture, [boxes[k][0] for k in seen]) if seen else []  # type: ignore[index]
        found: list[Found | None] = [None] * len(captions)
        for k, mask in zip(seen, masks, strict=True):
            box = boxes[k]
            if box is not None and mask.any():
                found[k] = Found(box=box[0], score=box[1], mask=mask)
        return found

    def _box(self, picture: Rgb, caption: str) -> tuple[tuple[float, float, float, float], float] | None:
        """(box, score); lower case and a full stop at the end are how the detector was trained."""
        import torch

        height, width = picture.shape[:2]
        text = caption.lower().strip().rstrip(".") + "."
        inputs = self._words(images=Image.fromarray(picture), text=text, return_tensors="pt").to(self._place)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._detector.dtype)
        with torch.inference_mode():
            outputs = self._detector(**inputs)
        (answer,) = self._words.post_process_grounded_object_detection(
            outputs,
            inputs["input_ids"],
            threshold=self.config.box_threshold,
            text_threshold=self.config.text_threshold,
            target_sizes=[(height, width)],
        )
        boxes, scores = answer["boxes"].float().tolist(), answer["scores"].float().tolist()
        rows = zip(boxes, scores, answer["text_labels"], strict=False)  # for no box the library gives one empty label
        best: tuple[tuple[float, float, float, float], float] | None = None
        for (x0, y0, x1, y1), score, words in rows:
            box = (max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1))
            if words.strip() and box[0] < box[2] and box[1] < box[3] and (best is None or score > best[1]):
                best = box, score
        return best

    def _mask(self, picture: Rgb, boxes: Sequence[tuple[float, float, float, float]]) -> list[Mask]:
        import torch

        inputs = self._outlines(
            Image.fromarray(picture), input_boxes=[[list(box) for box in boxes]], return_tensors="pt"
        )
        sizes, shown = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        given = {name: value.to(self._place, self._masks.dtype) for name, value in inputs.items()}
        with torch.inference_mode():
            outputs = self._masks(**given, multimask_output=False)
        (masks,) = self._outlines.image_processor.post_process_masks(
            list(outputs.pred_masks.float().cpu()), sizes, shown
        )
        return [mask[0].numpy().astype(bool) for mask in masks]
