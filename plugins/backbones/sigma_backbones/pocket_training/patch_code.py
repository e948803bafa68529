"""A start for the pocket VAE: its linear encoder set to a 16-number code of every 8 x 8 patch.

The code is a cosine transform over luma and two chroma axes, cut to the 16 components that carry most of toybox
(25.8 dB on its scenes when decoded linearly; the best linear code, from the data, gives 25.9). It needs no data, so
the start is the same everywhere; training then moves encoder and decoder away from it.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

COMPONENTS = (
    *((0, (0, 0)), (1, (0, 0)), (0, (1, 0)), (0, (0, 1)), (2, (0, 0)), (0, (2, 0)), (0, (1, 1)), (0, (0, 2))),
    *((1, (1, 0)), (0, (1, 2)), (0, (2, 1)), (1, (0, 1)), (0, (3, 0)), (0, (0, 3)), (0, (2, 2)), (0, (1, 3))),
)
"""(colour axis, (row frequency, column frequency)) in falling order of variance on toybox scenes."""
DEVIATIONS = (5.38, 2.23, 1.47, 1.33, 1.05, 0.75, 0.73, 0.71, 0.51, 0.50, 0.48, 0.48, 0.46, 0.43, 0.36, 0.33)
"""Standard deviation of each component on toybox scenes, pixels in [-1, 1], orthonormal basis."""
ENCODER_CHANNELS = 48
"""A 4 x 4 patch of colours: what the encoder must be able to carry before its last strided layer."""
DECODER_CHANNELS = 2 * len(COMPONENTS)
"""Each component and its negative, because the decoder rectifies."""
_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))
_SIDE = 8


def start_encoder(vae: AutoencoderTiny) -> None:
    """Sets the encoder to the patch code; component k is scaled to the square root of its deviation.

    Between whitening (fine detail as loud as colour) and none (detail too quiet to be learned by the transformer).
    An encoder with blocks rectifies what passes through them: it carries pixels as 0 to 1 and components as pairs of
    a positive and a negative part. Its further channels keep their random start.
    """
    convolutions = [layer for layer in vae.encoder.layers if isinstance(layer, nn.Conv2d)]
    first, *strided, last = convolutions
    rectified = len(convolutions) < len(vae.encoder.layers)
    with torch.no_grad():
        for layer in (first, strided[0], strided[1]):
            layer.weight[:ENCODER_CHANNELS] = 0
        for channel in range(3):  # the encoder gets pixels as (x + 1) / 2
            first.weight[channel, channel, 1, 1] = 1.0 if rectified else 2.0
        _set_bias(first, torch.tensor([0.0 if rectified else -1.0] * 3))
        _gather(strided[0], 3)
        _gather(strided[1], 12)
        (_start_rectified_code if rectified else _start_linear_code)(strided[2], last)


def _start_linear_code(strided: nn.Conv2d, last: nn.Conv2d) -> None:
    """Components from pixels in [-1, 1]; nothing else gets through."""
    count = len(COMPONENTS)
    for layer in (strided, last):
        layer.weight.zero_()
    strided.weight[:count, :ENCODER_CHANNELS, 1:, 1:] = _scaled_basis()
    _set_bias(last, torch.zeros(count))
    for component in range(count):
        last.weight[component, component, 1, 1] = 1.0


def _start_rectified_code(strided: nn.Conv2d, last: nn.Conv2d) -> None:
    """Components from pixels in [0, 1], as (positive, negative) pairs up to the last layer."""
    count, basis = len(COMPONENTS), _scaled_basis()
    strided.weight[: 2 * count] = 0
    strided.weight[:count, :ENCODER_CHANNELS, 1:, 1:] = 2 * basis
    strided.weight[count : 2 * count, :ENCODER_CHANNELS, 1:, 1:] = -2 * basis
    last.weight.zero_()
    for component in range(count):
        last.weight[component, component, 1, 1] = 1.0
        last.weight[component, count + component, 1, 1] = -1.0
    _set_bias(last, -basis.sum((1, 2, 3)))  # zero for all but the mean brightness, which is never negative here


def _set_bias(layer: nn.Conv2d, values: Tensor) -> None:
    """The first biases of a layer; the others become zero."""
    assert layer.bias is not None
    layer.bias.zero_()
    layer.bias[: len(values)] = values


def start_decoder(vae: AutoencoderTiny) -> None:
    """Sets the decoder to carry the latents up as (positive, negative) pairs and to show each patch's mean colour."""
    first, *middle, last = vae.decoder.layers
    count = len(COMPONENTS)
    with torch.no_grad():
        first.weight.mul_(0.3)
        first.bias.zero_()
        for component in range(count):
            first.weight[component] = 0
            first.weight[count + component] = 0
            first.weight[component, component, 1, 1] = 1.0
            first.weight[count + component, component, 1, 1] = -1.0
        for layer in middle:
            if isinstance(layer, nn.Conv2d):
                layer.weight.mul_(0.1)
                for channel in range(layer.weight.shape[0]):
                    layer.weight[channel, channel, 1, 1] += 1.0
        last.weight.mul_(0.1)
        for place in (0, 1, 4):  # the three components without frequency: luma and chroma of the whole patch
            axis = torch.tensor(_AXES[COMPONENTS[place][0]])
            colour = axis / axis.norm() / (_SIDE * _gain(place))
            last.weight[:, place, 1, 1] += colour / 2
            last.weight[:, count + place, 1, 1] -= colour / 2
        last.bias.fill_(0.5)  # the decoder gives pixels as (x + 1) / 2


def _gather(layer: nn.Conv2d, channels: int) -> None:
    """A stride-2 layer that writes 2 x 2 pixels of ``channels`` into channels: (row, column, channel) order."""
    for row in range(2):
        for column in range(2):
            for channel in range(channels):
                layer.weight[(2 * row + column) * channels + channel, channel, 1 + row, 1 + column] = 1.0


def _gain(component: int) -> float:
    """Deviation after scaling over deviation before; within +-1 the decoder's soft clamp is almost linear."""
    return 0.5 * math.sqrt(DEVIATIONS[0] / DEVIATIONS[component]) / _SIDE


def _scaled_basis() -> Tensor:
    """(16, 48, 2, 2): the code as the kernel of the last strided layer, after two layers of ``_gather``."""
    kernels = torch.zeros(len(COMPONENTS), 48, 2, 2)
    for number, patch in enumerate(patches()):
        # pixel (y, x) sits in row bits y = 4 y3 + 2 y2 + y1: y3 picks the tap, y2 and y1 the channel
        bits = (patch * _gain(number)).reshape(2, 2, 2, 2, 2, 2, 3)  # y3 y2 y1 x3 x2 x1 c
        kernels[number] = bits.permute(1, 4, 2, 5, 6, 0, 3).reshape(48, 2, 2)
    return kernels


def patches() -> Tensor:
    """(16, 8, 8, 3): the components as orthonormal pictures of a patch, before scaling."""
    made = []
    for axis, (row, column) in COMPONENTS:
        patch = torch.einsum("y,x,c->yxc", _cosine(row), _cosine(column), torch.tensor(_AXES[axis]))
        made.append(patch / patch.norm())
    return torch.stack(made)


def _cosine(frequency: int) -> Tensor:
    return torch.cos(math.pi * (torch.arange(_SIDE) + 0.5) * frequency / _SIDE)
