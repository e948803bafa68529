"""An extra of training that the paper does not have: regions are told where to look, not only what to look like.

The flow-matching loss teaches routing by its result alone: a region must find its identity before looking there pays.
This loss says so directly. Of all attention that a region's tokens give to the identity images, its own should get all:
``-log(own / all)``, mean over the regions' tokens and over the layers that report (docs/decisions/0027).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch

from sigma_framework.errors import PluginError
from sigma_framework.protocols import AttentionReader, Backbone
from sigma_framework.types import BoolMap

IDENTITY = 0
"""Place of ``I^S`` among the conditions."""
BLIND_LAYERS = 1
"""Layers at the start that are left alone: a token of X learns its region by looking at ``I^C`` in them."""
_SMALLEST = 1e-6
"""Least share of attention whose logarithm is taken."""


class AttentionLoss:
    """Collects what one call of ``velocity`` looks at.

    Args:
        backbone: one that can tell where tokens look.
        regions: per example (N, h, w), in the order of the identity blocks; N is the same for all. An example without
            routing (blank conditions) has regions that are empty.

    Raises:
        PluginError: the backbone cannot tell.
    """

    def __init__(self, backbone: Backbone, regions: Sequence[BoolMap]) -> None:
        if not isinstance(backbone, AttentionReader):
            raise PluginError(
                f"train.attention_loss_weight: {type(backbone).__name__} cannot tell where tokens look "
                "(it has no watch_attention); set the weight to 0, or use a backbone that can, e.g. flux_kontext"
            )
        self.backbone = backbone
        self.inside = torch.stack([_tokens_inside(backbone, one) for one in regions])
        self._sums: list[torch.Tensor] = []

    @contextmanager
    def watching(self, layers: Collection[int] | None = None) -> Iterator[None]:
        """While it is open, ``velocity`` is listened to; ``layers`` None is all but the first."""
        assert isinstance(self.backbone, AttentionReader)
        rows = torch.arange(self.inside.shape[-1])
        with self.backbone.watch_attention(rows, self._add, layers=layers, gradients=True):
            yield

    def value(self) -> torch.Tensor:
        """(b,) the loss of each example; 0 where no token lies in a region."""
        return torch.stack(self._sums).mean(dim=0)

    def _add(self, layer: int, chances: tuple[torch.Tensor, ...]) -> None:
        if layer < BLIND_LAYERS:
            return
        inside = self.inside.to(chances[IDENTITY].device)
        looks = chances[IDENTITY].mean(dim=1)
        blocks = looks.reshape(*looks.shape[:2], inside.shape[1], -1).sum(dim=-1)  # (b, rows, N)
        shares = blocks / blocks.sum(dim=-1, keepdim=True).clamp_min(_SMALLEST)
        losses = -shares.clamp_min(_SMALLEST).log().transpose(1, 2) * inside
        self._sums.append(losses.sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp_min(1.0))


def _tokens_inside(backbone: Backbone, regions: BoolMap) -> torch.Tensor:
    """(N, l) how much of each target token lies in each region, 0 to 1."""
    each = [backbone.region_tokens(torch.from_numpy(region).float())[0].float().mean(dim=-1) for region in regions]
    return torch.stack(each)
