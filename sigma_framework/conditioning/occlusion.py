"""Warnings about subjects that cannot be seen, or whose boxes overlap too much: the failure mode of A.8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sigma_framework.types import ControlLayer

SMALLEST_VISIBLE = 0.25
"""A subject of which less is visible in one channel gets a warning."""
LARGEST_OVERLAP = 0.6
"""Two boxes that overlap more (IoU, or share of the smaller one) get a warning."""

_Window = tuple[slice, slice]
_Channel = NDArray[np.uint8]


def find_warnings(
    layers: Sequence[ControlLayer],
    names: Sequence[str],
    windows: Sequence[_Window],
    ascending: _Channel,
    descending: _Channel,
) -> list[str]:
    """Sentences for people, each naming the subject, who covers it, and the fraction."""
    warnings = []
    for index, (layer, window) in enumerate(zip(layers, windows, strict=True)):
        region = layer.region[window]
        area = np.count_nonzero(region)
        value = 10 * (index + 1)
        shares = [np.count_nonzero(channel[window] == value) / area for channel in (ascending, descending)]
        name = names[index]
        if max(shares) == 0:
            coverers = _coverers(region, window, (ascending, descending), names)
            warnings.append(f'subject "{name}" cannot be seen: covered by {coverers}; reorder or shrink them')
        elif min(shares) < SMALLEST_VISIBLE:
            worst = int(np.argmin(shares))
            channel, order = ((ascending, "ascending"), (descending, "descending"))[worst]
            coverers = _coverers(region, window, (channel,), names, value)
            warnings.append(
                f'subject "{name}": {shares[worst]:.0%} of its region is visible in the {order} channel, '
                f"covered by {coverers}"
            )
    return warnings + _overlaps(names, windows)


def _coverers(
    region: NDArray[np.bool_], window: _Window, channels: Sequence[_Channel], names: Sequence[str], own: int = 0
) -> str:
    """``"sofa" (60 %) and "dog" (40 %)``: who stands on the region, by the largest share in a channel."""
    area = np.count_nonzero(region)
    shares: dict[int, float] = {}
    for channel in channels:
        counts = np.bincount(channel[window][region], minlength=256)
        for value in np.flatnonzero(counts):
            if value != own:
                shares[int(value)] = max(shares.get(int(value), 0.0), float(counts[value]) / area)
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return " and ".join(f'"{names[value // 10 - 1]}" ({share:.0%})' for value, share in ordered)


def _overlaps(names: Sequence[str], windows: Sequence[_Window]) -> list[str]:
    """Pairs of boxes (the regions' bounding boxes) that overlap too much."""
    warnings = []
    for later in range(len(windows)):
        for earlier in range(later):
            overlap, smaller = _overlap(windows[earlier], windows[later])
            if overlap > LARGEST_OVERLAP:
                inner, outer = (earlier, later) if smaller == 0 else (later, earlier)
                warnings.append(
                    f'subject "{names[inner]}": its box overlaps the box of "{names[outer]}" by {overlap:.0%}; '
                    "one of the two may be lost"
                )
    return warnings


def _overlap(first: _Window, second: _Window) -> tuple[float, int]:
    """The larger of IoU and containment, which is containment in the smaller box; and which box is smaller."""
    height = min(first[0].stop, second[0].stop) - max(first[0].start, second[0].start)
    width = min(first[1].stop, second[1].stop) - max(first[1].start, second[1].start)
    areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in (first, second)]
    return max(0, height) * max(0, width) / min(areas), int(areas[1] < areas[0])
