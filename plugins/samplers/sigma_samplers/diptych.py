"""Cutting a square around a subject's region, and putting it back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of a picture that was made square itself by repeating its border."""

    top: int
    """Row in the squared picture, pixels."""
    left: int
    """Column in the squared picture."""
    side: int
    """Height and width."""
    size_hw: tuple[int, int]
    """Of the picture before it was made square."""

    def cut(self, picture: Tensor) -> Tensor:
        """(c, h, w) -> (c, side, side); beyond the border its last pixels are repeated."""
        squared = functional.pad(picture[None], self._borders, mode="replicate")[0]
        return squared[:, self.top : self.top + self.side, self.left : self.left + self.side]

    def put(self, picture: Tensor, square: Tensor) -> Tensor:
        """A new (c, h, w) with ``square`` (c, side, side) in the window; what lies beyond the border is lost."""
        squared = functional.pad(picture[None], self._borders, mode="replicate")[0].clone()
        squared[:, self.top : self.top + self.side, self.left : self.left + self.side] = square
        before_column, _, before_row, _ = self._borders
        height, width = self.size_hw
        return squared[:, before_row : before_row + height, before_column : before_column + width]

    @property
    def _borders(self) -> tuple[int, int, int, int]:
        """Columns before and after, rows before and after."""
        height, width = self.size_hw
        longer = max(height, width)
        rows, columns = longer - height, longer - width
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def window_around(region: Tensor, margin: float) -> Window:
    """The square of ``margin`` longer sides of the box of ``region > 0`` (h, w), inside the squared picture."""
    height, width = region.shape
    rows, columns = (torch.nonzero((region > 0).any(dim=axis)).flatten().tolist() for axis in (1, 0))
    longest = max(height, width)
    box = max(rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])
    side = min(longest, max(box, round(margin * box)))
    starts = [
        (first + last + 1 - side) // 2 + (longest - size) // 2
        for first, last, size in ((rows[0], rows[-1], height), (columns[0], columns[-1], width))
    ]
    top, left = (min(max(start, 0), longest - side) for start in starts)
    return Window(top=top, left=left, side=side, size_hw=(height, width))


def resized(picture: Tensor, side: int, mode: str = "bilinear") -> Tensor:
    """(c, h, w) -> (c, side, side), smoothed when it becomes smaller; ``nearest`` keeps values."""
    options = {"mode": "nearest"} if mode == "nearest" else {"mode": mode, "antialias": True}
    return functional.interpolate(picture[None].float(), size=(side, side), **options)[0]  # type: ignore[arg-type]
