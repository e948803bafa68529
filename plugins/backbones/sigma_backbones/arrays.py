"""Names for the arrays that pictures come in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BoolMap = NDArray[np.bool_]
"""(H, W) bool."""
FloatMap = NDArray[np.float32]
"""(H, W) float32."""
RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""
