"""The judge as the measures use it: pictures in, what is seen in them out; and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from sigma_framework import WeightsError
from sigma_metrics.judge import WEIGHTS
from sigma_metrics.judge.architecture import STEP, VOTE_PIXELS, JudgeNetworks, build_networks
from sigma_metrics.judge.crops import cut_out, identity_tensor, picture_tensor

BoolMap = NDArray[np.bool_]
FloatMap = NDArray[np.float32]
RgbImage = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What the judge sees in one picture; it knows nothing of what was asked for."""

    subject: BoolMap
    """(H, W) bool: the pixels of all subjects together."""
    nearness: FloatMap
    """(H, W) float32: relative inverse depth, larger is nearer; means something on subjects only."""
    middles: FloatMap
    """(2, H, W) float32: x and y of the middle of the subject that the pixel belongs to, pixels."""


class Judge:
    """Reads pictures and compares subjects, on the CPU."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._weights = weights

    @cached_property
    def networks(self) -> JudgeNetworks:
        """Loaded when first asked for."""
        return load_networks(self._weights).eval()

    def read(self, picture: RgbImage) -> Reading:
        """One picture (H, W, 3) uint8 of any size."""
        return read_picture(self.networks.scene, picture)

    @torch.no_grad()
    def embed_identities(self, identities: Sequence[RgbImage]) -> FloatMap:
        """(N, 64) float32 of length 1."""
        return self.networks.crop(torch.stack([identity_tensor(one) for one in identities])).numpy()

    @torch.no_grad()
    def embed_subjects(self, picture: RgbImage, masks: Sequence[BoolMap] | BoolMap) -> FloatMap:
        """(N, 64) float32: of length 1, or 0 for a mask without a pixel."""
        image = picture_tensor(picture)
        there = [k for k, mask in enumerate(masks) if mask.any()]
        found = np.zeros((len(masks), self.networks.crop.head.out_features), np.float32)
        if there:
            crops = [cut_out(image, torch.from_numpy(masks[k]).float()) for k in there]
            found[there] = self.networks.crop(torch.stack(crops)).numpy()
        return found


@torch.no_grad()
def read_picture(network: nn.Module, picture: RgbImage) -> Reading:
    """Sides that are no multiple of 16 are continued by their last pixels and cut again."""
    height, width = picture.shape[:2]
    image = functional.pad(picture_tensor(picture)[None], (0, -width % STEP, 0, -height % STEP), mode="replicate")
    device = next(network.parameters()).device
    read = network(image.to(device)).float().cpu()[0, :, :height, :width].numpy()
    middles = read[2:] * VOTE_PIXELS + np.stack(np.meshgrid(np.arange(width), np.arange(height)))
    return Reading(subject=read[0] > 0, nearness=read[1], middles=middles.astype(np.float32))


def show_reading(network: nn.Module, picture: RgbImage) -> list[RgbImage]:
    """The picture, its subjects, their nearness, and the middles as colours."""
    reading = read_picture(network, picture)
    near = np.where(reading.subject, reading.nearness.clip(0, 1) * 229 + 26, 0)
    place = np.where(reading.subject, reading.middles * 2, 0).clip(0, 255)
    place = np.concatenate([place, np.where(reading.subject, 128, 0)[None]])
    grey = [np.repeat(map_[..., None], 3, axis=2).astype(np.uint8) for map_ in (reading.subject * 255, near)]
    return [picture, *grey, place.transpose(1, 2, 0).astype(np.uint8)]


def save_networks(networks: JudgeNetworks, path: Path) -> None:
    """Weights and running statistics, bfloat16 (what counts steps is left out)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in networks.state_dict().items()
        if value.is_floating_point()
    }
    save_file(state, path)


def load_networks(path: Path) -> JudgeNetworks:
    """The networks of a file, float32.

    Raises:
        WeightsError: missing, damaged or of another architecture.
    """
    networks = build_networks(0)
    try:
        state: dict[str, Tensor] = {name: value.float() for name, value in load_file(path).items()}
        missing, unknown = networks.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"judge: {path} cannot be read ({reason}); install the package again") from error
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking or unknown:
        raise WeightsError(f"judge: {path} is of another architecture (found no {lacking}, unknown {unknown})")
    return networks
