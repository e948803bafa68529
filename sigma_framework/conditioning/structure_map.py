"""Channel 2 of ``I^C``: inverse depth of what is nearest, mapped to 26..255 (section 3.4; the formula is ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigma_framework.errors import Problem, SceneError
from sigma_framework.types import ControlLayer, DepthRaster

FLOOR = 26
"""Value of the farthest subject pixel: apart from the background's 0."""
SPAN = 229
"""FLOOR + SPAN = 255, the nearest pixel."""

_STRIP_ROWS = 32
_FloatArray = NDArray[np.float64]


def draw_layers(
    channel: NDArray[np.uint8],
    layers: Sequence[ControlLayer],
    names: Sequence[str],
    windows: Sequence[tuple[slice, slice]],
    *,
    each: bool = False,
) -> tuple[float, float] | None:
    """Writes ``26 + rint(229 (d - min) / (max - min))`` over the pixels with depth, d = 1 / z of the nearest subject.

    Args:
        channel: (H, W) of zeros, written to.
        layers: one per subject.
        names: the subjects' names, for messages.
        windows: bounding boxes of the regions.
        each: min and max are each subject's own, over its visible pixels: shapes gain contrast, their order is lost.

    Returns:
        min and max of d over all subjects; None when no layer has depth.

    Raises:
        SceneError: depth that is not finite and positive, or relative depth mixed with metres.
    """
    with_depth = [index for index, layer in enumerate(layers) if layer.depth is not None]
    if not with_depth:
        return None
    problems = _check_mixing(layers, names, with_depth)
    if problems:
        raise SceneError("layout", problems)
    outer = _union([windows[index] for index in with_depth])
    if not each and all(layers[index].depth_kind == "metric" for index in with_depth):
        return _draw_metric(channel[outer], layers, names, windows, with_depth, outer)
    to_metric = any(is_scaled(layers[index]) for index in with_depth)
    nearest = np.full((outer[0].stop - outer[0].start, outer[1].stop - outer[1].start), -1.0)
    for index in with_depth:
        layer, window = layers[index], windows[index]
        region = layer.region[window]
        inverse = np.where(region, _inverse_depth(layer, window, to_metric), -1.0)
        fault = _find_fault(inverse, region, allow_zero=not is_scaled(layer))
        if fault:
            problems.append(Problem(f"subjects[{index}] ({names[index]})", fault))
        view = nearest[_shifted(window, outer)]
        np.maximum(view, inverse, out=view)
    if problems:
        raise SceneError("layout", problems)
    limits = _limits(nearest)
    if each:
        for index in with_depth:
            window = windows[index]
            own = np.where(layers[index].region[window], _inverse_depth(layers[index], window, to_metric), -1.0)
            visible = (own >= 0) & (own == nearest[_shifted(window, outer)])
            if visible.any():
                _draw_where(channel[window], own, visible)
        return limits
    _draw(channel[outer], nearest, limits)
    return limits


def _draw_metric(
    channel: NDArray[np.uint8],
    layers: Sequence[ControlLayer],
    names: Sequence[str],
    windows: Sequence[tuple[slice, slice]],
    with_depth: Sequence[int],
    outer: tuple[slice, slice],
) -> tuple[float, float]:
    """As ``draw_layers`` for metres alone: what is nearest is found before it is inverted, in the depth's own type.

    Inverting keeps the order, so that the image is the same bit for bit, at a third of the memory traffic.
    """
    depths = [layer.depth for layer in layers if layer.depth is not None]
    nearest = np.full(channel.shape, np.inf, np.result_type(*depths))
    problems = []
    for index in with_depth:
        layer, window = layers[index], windows[index]
        assert layer.depth is not None
        region = layer.region[window]
        front = np.where(region, layer.depth[window], nearest.dtype.type(np.inf))
        if not (front.min() > 0 and np.count_nonzero(front < np.inf) == np.count_nonzero(region)):
            with np.errstate(divide="ignore", invalid="ignore"):
                fault = _find_fault(np.where(region, 1.0 / front, -1.0), region, allow_zero=False)
            problems.append(Problem(f"subjects[{index}] ({names[index]})", fault))
            continue
        view = nearest[_shifted(window, outer)]
        np.minimum(view, front, out=view)
    if problems:
        raise SceneError("layout", problems)
    farthest = max(float(np.where(rows < np.inf, rows, 0).max()) for rows in _strips(nearest))
    limits = (1.0 / farthest, 1.0 / float(nearest.min()))
    inverse = np.empty((_STRIP_ROWS, nearest.shape[1]))
    for target, rows in zip(_strips(channel), _strips(nearest), strict=True):
        _draw_strip(target, np.divide(1.0, rows, out=inverse[: len(rows)], dtype=np.float64), rows < np.inf, limits)
    return limits


def draw_scene(
    channel: NDArray[np.uint8], structure: NDArray[np.uint8] | DepthRaster, limits: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Writes the depth of a whole scene (Table 3): 8 bits as they are, metres through the same mapping.

    Pixels that are not finite and positive count as not given and stay 0. What lies outside ``limits`` is clipped.
    """
    if not isinstance(structure, DepthRaster):
        if structure.shape != channel.shape:
            raise SceneError("layout", [Problem("structure", f"shape {structure.shape}, expected {channel.shape}")])
        channel[...] = structure
        return None
    values = structure.values.astype(np.float64)
    if values.shape != channel.shape:
        raise SceneError("layout", [Problem("structure", f"shape {values.shape}, expected {channel.shape}")])
    given = np.isfinite(values) & (values > 0)
    if not given.any():
        raise SceneError("layout", [Problem("structure", "holds no finite positive depth")])
    inverse = values if structure.kind == "disparity" else np.divide(1.0, values, out=values, where=given)
    if limits is None:
        limits = (float(inverse[given].min()), float(inverse[given].max()))
    _draw(channel, np.where(given, np.clip(inverse, *limits), -1.0), limits)
    return limits


def is_scaled(layer: ControlLayer) -> bool:
    """Whether the layer's depth is in metres, or can be brought to them."""
    return layer.depth_kind == "metric" or (layer.near_metres is not None and layer.far_metres is not None)


def _check_mixing(layers: Sequence[ControlLayer], names: Sequence[str], with_depth: Sequence[int]) -> list[Problem]:
    """Relative depth has no common scale with metres: an order between the two would be invented."""
    unscaled = [index for index in with_depth if not is_scaled(layers[index])]
    if len(unscaled) == len(with_depth):
        return []
    scaled = ", ".join(names[index] for index in with_depth if index not in unscaled)
    what = f"relative depth (disparity) without near and far cannot be mixed with depth in metres ({scaled})"
    remedy = "give near and far in metres, or depth_kind: metric_m or metric_mm"
    return [Problem(f"subjects[{index}] ({names[index]})", what, remedy) for index in unscaled]


def _inverse_depth(layer: ControlLayer, window: tuple[slice, slice], to_metric: bool) -> _FloatArray:
    assert layer.depth is not None
    values = layer.depth[window].astype(np.float64)
    if layer.depth_kind == "metric":
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1.0 / values
    return _scale_disparity(values, layer, layer.region[window]) if to_metric else values


def _scale_disparity(values: _FloatArray, layer: ControlLayer, region: NDArray[np.bool_]) -> _FloatArray:
    """Relative inverse depth -> 1 / metres: linear between 1 / far and 1 / near over the region."""
    assert layer.near_metres is not None and layer.far_metres is not None
    low = float(np.min(values, where=region, initial=np.inf))
    high = float(np.max(values, where=region, initial=-np.inf))
    far, near = 1.0 / layer.far_metres, 1.0 / layer.near_metres
    if not high > low:
        return np.full_like(values, near) if high == low else values  # NaN stays, to be found
    return far + (values - low) / (high - low) * (near - far)


def _find_fault(inverse: _FloatArray, region: NDArray[np.bool_], *, allow_zero: bool) -> str:
    """Says when inverse depth is not usable; zero is infinitely far, which only relative depth may be.

    ``inverse`` is -1 outside the region.
    """
    area = np.count_nonzero(region)
    if np.isfinite(inverse.max()) and np.count_nonzero(inverse >= 0 if allow_zero else inverse > 0) == area:
        return ""
    good = np.isfinite(inverse) & ((inverse >= 0) if allow_zero else (inverse > 0))
    return f"its depth is not finite and positive on {1 - np.count_nonzero(good) / area:.0%} of its region"


def _limits(inverse: _FloatArray) -> tuple[float, float]:
    """Smallest and largest of what is not negative."""
    low = min(float(np.min(rows, where=rows >= 0, initial=np.inf)) for rows in _strips(inverse))
    return low, float(inverse.max())


def _draw(channel: NDArray[np.uint8], inverse: _FloatArray, limits: tuple[float, float]) -> None:
    """Writes the mapping where ``inverse`` is not negative, 0 elsewhere; ``inverse`` is used up."""
    for target, rows in zip(_strips(channel), _strips(inverse), strict=True):
        _draw_strip(target, rows, rows >= 0, limits)


def _draw_strip(
    target: NDArray[np.uint8], inverse: _FloatArray, given: NDArray[np.bool_], limits: tuple[float, float]
) -> None:
    low, high = limits
    if high > low:
        np.subtract(inverse, low, out=inverse)
        np.multiply(inverse, SPAN, out=inverse)
        np.divide(inverse, high - low, out=inverse)
        np.add(np.rint(inverse, out=inverse), FLOOR, out=inverse)
    else:
        inverse.fill(FLOOR + SPAN)
    target[...] = np.multiply(inverse, given, out=inverse)  # what is not given may be anything finite until here


def _draw_where(channel: NDArray[np.uint8], inverse: _FloatArray, visible: NDArray[np.bool_]) -> None:
    """The mapping over ``visible`` alone, with its own limits; the rest of the channel stays."""
    own = np.zeros_like(channel)
    shown = np.where(visible, inverse, -1.0)
    _draw(own, shown, _limits(shown))
    np.copyto(channel, own, where=visible)


def _strips(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Views of some rows each: a strip stays in the cache through all steps of the mapping."""
    return [values[start : start + _STRIP_ROWS] for start in range(0, len(values), _STRIP_ROWS)]


def _union(windows: Sequence[tuple[slice, slice]]) -> tuple[slice, slice]:
    rows = slice(min(rows.start for rows, _ in windows), max(rows.stop for rows, _ in windows))
    return rows, slice(min(columns.start for _, columns in windows), max(columns.stop for _, columns in windows))


def _shifted(window: tuple[slice, slice], outer: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = window
    top, left = outer[0].start, outer[1].start
    return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
