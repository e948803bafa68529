"""The two networks of the judge: one reads a whole picture, one embeds the cut-out of a subject.

Shapes: B pictures, P cut-outs, H x W pixels (multiples of 16).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STEP = 16
"""Height and width must be multiples of this, pixels."""
CROP = 64
"""Side of a cut-out, pixels."""
VOTE_PIXELS = 32.0
"""A vote of 1 points this many pixels away."""
_WIDTHS = (24, 48, 96, 96)
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the picture's size."""
_CROP_WIDTHS = (24, 48, 96)
_EMBEDDING = 64


class Block(nn.Module):
    """Two convolutions around which the input is led."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> the same."""
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class SceneReader(nn.Module):
    """Picture -> per pixel: is it a subject, how near is it, and where is the middle of what it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four = _WIDTHS
        self.stem = _convolution(12, one)
        self.at_half = Block(one)
        self.to_quarter, self.at_quarter = _convolution(one, two, 2), Block(two)
        self.to_eighth, self.at_eighth = _convolution(two, three, 2), Block(three)
        self.to_sixteenth = _convolution(three, four, 2)
        self.at_sixteenth = Block(four)
        self.from_sixteenth, self.back_at_eighth = nn.Conv2d(four, three, 1), _convolution(three, three)
        self.from_eighth, self.back_at_quarter = nn.Conv2d(three, two, 1), Block(two)
        self.from_quarter, self.back_at_half = nn.Conv2d(two, one, 1), Block(one)
        self.head = nn.Conv2d(one + 12, 16, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 4, H, W): subject logit, nearness, votes along x and y in ``VOTE_PIXELS``."""
        fine = functional.pixel_unshuffle(images, 2)  # every pixel is still there when edges are drawn
        half = self.at_half(functional.relu(self.stem(fine)))
        quarter = self.at_quarter(functional.relu(self.to_quarter(half)))
        eighth = self.at_eighth(functional.relu(self.to_eighth(quarter)))
        deep = self.at_sixteenth(functional.relu(self.to_sixteenth(eighth)))
        eighth = functional.relu(self.back_at_eighth(eighth + _doubled(self.from_sixteenth(deep))))
        quarter = self.back_at_quarter(quarter + _doubled(self.from_eighth(eighth)))
        half = self.back_at_half(half + _doubled(self.from_quarter(quarter)))
        return functional.pixel_shuffle(self.head(torch.cat([half, fine], dim=1)), 2)


class CropReader(nn.Module):
    """Cut-out of a subject -> a direction that says which subject it is, whatever its pose and light."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three = _CROP_WIDTHS
        self.body = nn.Sequential(
            _convolution(12, one), nn.ReLU(),
            Block(one),
            _convolution(one, two, 2), nn.ReLU(),
            Block(two),
            _convolution(two, three, 2), nn.ReLU(),
            Block(three),
        )  # fmt: skip
        self.head = nn.Linear(2 * three, _EMBEDDING)

    def forward(self, crops: Tensor) -> Tensor:
        """(P, 3, 64, 64) in [-1, 1] -> (P, 64) of length 1."""
        maps = self.body(functional.pixel_unshuffle(crops, 2))
        summary = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        return functional.normalize(self.head(summary).float(), dim=1)


class JudgeNetworks(nn.Module):
    """Both networks, and the sharpness of the identity comparison in training."""

    def __init__(self) -> None:
        super().__init__()
        self.scene, self.crop = SceneReader(), CropReader()
        self.sharpness = nn.Parameter(torch.tensor(2.3))  # exp(2.3) = 10


def build_networks(seed: int) -> JudgeNetworks:
    """Fresh networks; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return JudgeNetworks()


def _convolution(width_in: int, width_out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width_out)
    )


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")
