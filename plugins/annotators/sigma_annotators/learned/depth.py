"""Depth of a picture: metric where the checkpoint is, with what is known of it and of the camera."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_annotators.learned.config import DepthConfig
from sigma_annotators.learned.weights import place_of, read_weights, told_name, with_models
from sigma_annotators.records import require
from sigma_framework import Camera, RecipeError, WeightsError

MOGE_FILE = "model.pt"
"""In a folder of MoGe's; the package reads it without running code from it."""
FloatMap = NDArray[np.float32]
_FARTHEST = 20.0
"""Depth of the farthest point of a relative map over that of its nearest; any value above 1 gives the same control."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthEstimate:
    """What every estimator gives."""

    values: FloatMap
    """(H, W) along z."""
    kind: Literal["metric", "relative"]
    """``metric``: metres. ``relative``: right up to a scale and more, of no use for 3D boxes."""
    valid: NDArray[np.bool_]
    """(H, W) where ``values`` mean something."""
    camera: Camera
    """Pixels."""

    def entries(self) -> dict[str, Any]:
        """As records hold it: 0 where unknown."""
        known = self.valid & np.isfinite(self.values) & (self.values > 0)
        camera = {name: getattr(self.camera, name) for name in ("fx", "fy", "cx", "cy")}
        depth = np.where(known, self.values, 0).astype(np.float32)
        return {"depth": depth, "depth_kind": self.kind, "camera": camera}


class Depth:
    """Adds ``depth``, ``depth_kind`` and ``camera``; a depth that is there is kept, with its camera."""

    def __init__(self, config: DepthConfig) -> None:
        self.config = config
        moge = config.estimator == "moge"
        self._estimate: TransformersDepth | MogeDepth = MogeDepth(config) if moge else TransformersDepth(config)

    def __reduce__(self) -> tuple[type[Depth], tuple[DepthConfig]]:
        return Depth, (self.config,)

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Draws nothing from ``rng``."""
        for number, record in enumerate(records):
            require(record, number, "depth", ("target",))
            if record.get("depth") is not None:
                yield record
                continue
            estimate = self._estimate(record["target"])
            yield with_models({**record, **estimate.entries()}, depth=self._estimate.name)


class TransformersDepth:
    """``AutoModelForDepthEstimation``: Depth-Anything-V2, whose config says whether its depth is metric."""

    def __init__(self, config: DepthConfig) -> None:
        self.config = config
        self._place, dtype = place_of("depth", config.device, config.dtype)

        def read(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
            from transformers import AutoImageProcessor, AutoModelForDepthEstimation

            processor = AutoImageProcessor.from_pretrained(source, backend="pil", **options)
            return processor, AutoModelForDepthEstimation.from_pretrained(source, dtype=dtype, **options)

        self._processor, model = read_weights("depth: weights", config.source, config.revision, read)
        kind = getattr(model.config, "depth_estimation_type", None)
        if kind not in ("metric", "relative"):
            raise WeightsError(
                f"depth: weights: {config.source} does not say whether its depth is metric (depth_estimation_type); "
                "expected a Depth-Anything checkpoint, e.g. depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf"
            )
        self.kind: Literal["metric", "relative"] = kind
        self._model = model.to(self._place).eval()
        self.name = told_name(config.source, model, config.revision)

    def __call__(self, picture: NDArray[np.uint8]) -> DepthEstimate:
        """Of an (H, W, 3) uint8 picture."""
        import torch

        height, width = picture.shape[:2]
        inputs = self._processor(images=Image.fromarray(picture), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._place, self._model.dtype)
        with torch.inference_mode():
            outputs = self._model(pixel_values=pixels)
        (found,) = self._processor.post_process_depth_estimation(outputs, target_sizes=[(height, width)])
        values = found["predicted_depth"].float().cpu().numpy()
        camera = Camera.from_fov_y(self.config.fov_y, width, height)
        if self.kind == "metric":
            limit = self.config.saturated * float(self._model.config.max_depth or np.inf)
            return DepthEstimate(values=values, kind="metric", valid=values < limit, camera=camera)
        return DepthEstimate(
            values=depth_of_disparity(values), kind="relative", valid=np.isfinite(values), camera=camera
        )


class MogeDepth:
    """MoGe-2, from its own package: metric points, their validity and the camera."""

    def __init__(self, config: DepthConfig) -> None:
        try:
            from moge.model.v2 import MoGeModel  # type: ignore[import-not-found]
        except ImportError as error:
            raise RecipeError(
                "depth: estimator moge: the package is not installed; pip install git+https://github.com/microsoft/MoGe"
                ", or write estimator: transformers"
            ) from error
        self._place, _ = place_of("depth", config.device, "float32")

        def read(source: str, options: dict[str, Any]) -> Any:
            folder = Path(source)  # the package takes a hub id or the file itself
            return MoGeModel.from_pretrained(str(folder / MOGE_FILE) if folder.is_dir() else source, **options)

        model = read_weights("depth: weights", config.source, config.revision, read)
        self._model = model.to(self._place).eval()
        self.name = told_name(config.source, model, config.revision)

    def __call__(self, picture: NDArray[np.uint8]) -> DepthEstimate:
        """Of an (H, W, 3) uint8 picture."""
        import torch

        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float().div(255)
        with torch.inference_mode():
            found = self._model.infer(pixels.to(self._place))
        depth, intrinsics = (found[name].float().cpu().numpy() for name in ("depth", "intrinsics"))
        known = found["mask"].float().cpu().numpy() > 0.5 if "mask" in found else np.isfinite(depth)
        return estimate_of_moge(depth, known, intrinsics)


def estimate_of_moge(depth: FloatMap, valid: NDArray[np.bool_], intrinsics: FloatMap) -> DepthEstimate:
    """MoGe's answer in our units.

    Args:
        depth: (H, W) metres along z, infinite where invalid.
        valid: (H, W).
        intrinsics: (3, 3) for a picture whose sides are 1.
    """
    height, width = depth.shape
    camera = Camera(
        fx=float(intrinsics[0, 0]) * width,
        fy=float(intrinsics[1, 1]) * height,
        cx=float(intrinsics[0, 2]) * width,
        cy=float(intrinsics[1, 2]) * height,
    )
    return DepthEstimate(values=depth, kind="metric", valid=valid, camera=camera)


def depth_of_disparity(disparity: FloatMap) -> FloatMap:
    """A depth whose inverse is the given relative inverse depth, up to scale and offset, from 1 to ``_FARTHEST``.

    The structure channel spreads inverse depth between its least and its greatest value, so that it comes out as if the
    disparity itself had been spread.
    """
    low, high = float(disparity.min()), float(disparity.max())
    share = (disparity - low) / max(high - low, 1e-12)
    return np.asarray(1 / (1 / _FARTHEST + (1 - 1 / _FARTHEST) * share), np.float32)
