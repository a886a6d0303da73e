"""Resizing images: each axis for itself, by the table of its interpolation (``resample``).

Coordinate modes, kernels and borders are ONNX's Resize; jax.image.resize (Keras) is half_pixel with ``exclude_outside``. Cubic:
Keys' kernel; antialias stretches the kernel by the inverse of the scale where that is below 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...runtime import dim
from ...runtime.dtype import float32
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node
from . import functional as f
from .base import shape_text
from .resample import Table, pinned

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(t), 0, 1)


def keys_cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys' kernel (https://ieeexplore.ieee.org/document/1163711); ``a`` is its slope at 1."""

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0))

    return kernel


def _lanczos(radius: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.where(np.abs(t) < radius, np.sinc(t) * np.sinc(t / radius), 0)


def _kernel(method: str, cubic_a: float) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """The interpolation kernel and its support (elements to either side)."""
    kernels = {
        "linear": (_triangle, 1), "cubic": (keys_cubic(cubic_a), 2), "lanczos3": (_lanczos(3), 3), "lanczos5": (_lanczos(5), 5)}
    if method not in kernels:
        raise ArgumentError(f"resize: method {method!r} is none of nearest, {', '.join(kernels)}")
    return kernels[method]


def source_coordinates(mode: str, n: int, count: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Where each of ``count`` results lies on an axis of ``n`` elements, in elements (float64)."""
    o = np.arange(count, dtype=np.float64)
    length = scale * n
    if mode == "align_corners":
        return np.zeros(count) if length == 1 else o * (n - 1) / (length - 1)
    if mode == "asymmetric":
        return o / scale
    if mode == "tf_half_pixel_for_nn":
        return (o + 0.5) / scale
    if mode == "tf_crop_and_resize":
        low, high = roi
        span = (high - low) * (n - 1)
        return low * (n - 1) + (np.full(count, span / 2) if length == 1 else o * span / (length - 1))
    if mode == "pytorch_half_pixel" and length == 1:
        return np.full(count, -0.5)
    x = (o + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return x + n / 2 * (1 - count / length)
    if mode not in COORDINATES:
        raise ArgumentError(f"resize: coordinate mode {mode!r} is none of {', '.join(COORDINATES)}")
    return x


def interpolation(
    n: int, x: np.ndarray, method: str, scale: float, antialias: bool, exclude_outside: bool, cubic_a: float
) -> Table:
    """The table that reads an axis of ``n`` elements at coordinates ``x``. Outside lies the nearest element, or with
    ``exclude_outside`` nothing (the weights inside then sum to 1)."""
    kernel, support = _kernel(method, cubic_a)
    stretch = max(1.0, 1.0 / scale) if antialias else 1.0
    first = int(np.floor(-support * stretch)) + 1
    taps = np.arange(first, 2 - first)
    below = np.floor(x)
    weights = kernel((taps[None, :] - (x - below)[:, None]) / stretch)
    places = below[:, None].astype(np.int64) + taps[None, :]
    if exclude_outside:
        weights = np.where((places >= 0) & (places < n), weights, 0)
    if antialias or exclude_outside:
        total = weights.sum(1, keepdims=True)
        weights = np.where(np.abs(total) > 1e-12, weights / np.where(total == 0, 1, total), 0)
    rows = np.broadcast_to(np.arange(len(x))[:, None], places.shape)
    return Table.of(rows.reshape(-1), np.clip(places, 0, max(n - 1, 0)).reshape(-1), weights.reshape(-1), len(x), n)


_REPEATS = {("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"), ("asymmetric", "floor")}


def _repeated(x: Node, axis: int, times: int) -> Node:
    """Every element of ``axis`` so often: nearest by a whole factor, index arithmetic alone."""
    before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    wide = f.broadcast_to(f.expand_dims(x, (axis + 1,)), (*before, n, times, *after))
    return f.reshape(wide, (*before, n * times, *after))


def resize(
    x,
    sizes: Sequence[int],
    axes: Sequence[int] | None = None,
    method: str = "linear",
    coordinates: str = "half_pixel",
    antialias: bool = False,
    exclude_outside: bool = False,
    rounding: str = "round_prefer_floor",
    cubic_a: float = -0.75,
    scales: Sequence[float] | None = None,
    roi: Sequence[tuple[float, float]] | None = None,
    extrapolation: float | None = None,
) -> Node:
    """``x`` with ``axes`` (default: all) resized to ``sizes``; integers are interpolated in float32 and truncated.

    ``method``: nearest, linear, cubic, lanczos3, lanczos5; ``coordinates``: one of ``COORDINATES``; ``scales``: the ratios of
    sizes where they aren't size / axis (ONNX's ``scales``); ``roi``: (start, end) for each axis, for tf_crop_and_resize, which
    gives ``extrapolation`` outside of ``x`` (nearest elements where None); ``rounding``: of nearest's coordinates.
    """
    x = f.constant(x)
    axes = f.axes_tuple("resize", axes, x.rank)
    if len(sizes) != len(axes) or any(len(v) != len(axes) for v in (scales, roi) if v is not None):
        raise ShapeError(f"resize of axes {axes} of {x.type} needs as many sizes, scales and regions, got {shape_text(sizes)}")
    if method == "nearest" and rounding not in ROUNDINGS:
        raise ArgumentError(f"resize: rounding {rounding!r} is none of {', '.join(ROUNDINGS)}")
    dtype = x.dtype
    if method != "nearest" and not dtype.is_float:
        x = f.cast(x, float32)
    outside: list[tuple[int, np.ndarray]] = []
    for i, (axis, count) in enumerate(zip(axes, sizes)):
        same = dim.key(x.shape[axis]) == dim.key(count) and (scales is None or scales[i] == 1)
        if same and coordinates not in ("tf_crop_and_resize", "tf_half_pixel_for_nn"):
            continue  # coordinates are the elements' own
        if method == "nearest" and (coordinates, rounding) in _REPEATS and (scales is None or float(scales[i]).is_integer()):
            n = x.shape[axis]
            times = int(scales[i]) if scales is not None else count // n if type(n) is not dim.Dim and n and count % n == 0 else 0
            if times > 0 and dim.key(n * times) == dim.key(count):
                x = _repeated(x, axis, times)
                continue
        n, count = pinned(x.shape[axis]), pinned(count)
        if n == 0 and count != 0:
            raise ShapeError(f"resize: axis {axis} of {x.type} has no elements to make {count} of")
        scale = float(scales[i]) if scales is not None else count / n if n else 1.0
        at = source_coordinates(coordinates, n, count, scale, roi[i] if roi is not None else (0.0, 1.0))
        if coordinates == "tf_crop_and_resize" and extrapolation is not None:
            outside.append((axis, (at < 0) | (at > n - 1)))
        if method == "nearest":
            place = np.clip(ROUNDINGS[rounding](at), 0, max(n - 1, 0)).astype(np.int32)
            table = Table.of(np.arange(count), place, np.ones(count), count, n)
            x = f.resample(x, axis, table) if dtype.is_float else f.take(x, place, axis)
        else:
            x = f.resample(x, axis, interpolation(n, at, method, scale, antialias, exclude_outside, cubic_a))
    for axis, beyond in outside:
        if beyond.any():
            mask = beyond.reshape([-1 if a == axis else 1 for a in range(x.rank)])
            x = f.where(f.broadcast_to(f.constant(mask), x.shape), float(extrapolation or 0), x)
    return f.cast(x, dtype)
