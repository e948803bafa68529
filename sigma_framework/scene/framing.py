"""How a photograph, and the rasters drawn on it, become pictures of the scene's size (insertion)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_framework.types import RgbImage


@dataclass(frozen=True, slots=True)
class Framing:
    """Resize, then centre-crop; the same for the photograph and for masks of the photograph's size."""

    photo: tuple[int, int]
    """Width and height of the photograph, pixels."""
    covering: tuple[int, int]
    """Width and height of the photograph after resizing, pixels."""
    size: tuple[int, int]
    """Width and height of the scene, pixels."""

    @classmethod
    def own(cls, photo: tuple[int, int], multiple: int) -> Framing:
        """The scene takes the photograph's size, rounded down to the multiple: a centre crop, nothing resized."""
        return cls(photo, photo, (photo[0] // multiple * multiple, photo[1] // multiple * multiple))

    @classmethod
    def cover(cls, photo: tuple[int, int], size: tuple[int, int]) -> Framing:
        """The photograph is resized to the smallest picture that covers the scene."""
        scale = max(size[0] / photo[0], size[1] / photo[1])
        covering = (max(size[0], round(photo[0] * scale)), max(size[1], round(photo[1] * scale)))
        return cls(photo, covering, size)

    def frame_photo(self, pixels: RgbImage) -> RgbImage:
        """(H, W, 3) uint8 of the photograph -> of the scene's size, resized with Lanczos."""
        image = Image.fromarray(pixels)
        if image.size != self.covering:
            image = image.resize(self.covering, Image.Resampling.LANCZOS)
        return self._crop(np.asarray(image))

    def frame_values(self, values: NDArray[Any]) -> NDArray[Any]:
        """(H, W) values of the photograph's size -> of the scene's, nearest neighbour: no new values."""
        width, height = self.covering
        rows = np.minimum(((np.arange(height) + 0.5) * values.shape[0] / height).astype(np.intp), values.shape[0] - 1)
        columns = np.minimum(((np.arange(width) + 0.5) * values.shape[1] / width).astype(np.intp), values.shape[1] - 1)
        return self._crop(values[rows[:, None], columns[None, :]])

    def _crop(self, pixels: NDArray[Any]) -> NDArray[Any]:
        left, top = (self.covering[0] - self.size[0]) // 2, (self.covering[1] - self.size[1]) // 2
        return np.ascontiguousarray(pixels[top : top + self.size[1], left : left + self.size[0]])
