"""Convolutions and pooling of ``ops``, over 1, 2 or 3 spatial axes, channels last or first."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....compiler.ops.lift import operands
from ....runtime.dim import Dim, ceil_div, dim_max
from ....runtime.errors import ArgumentError, ShapeError
from .. import config
from ..tensor import known_shape
from .define import operation

NN = "keras.src.ops.nn"
LARGEST = 2**20  # of a window, stride, dilation or repetition: what a file may ask for is bounded


def per_axis(value: Any, n: int, name: str) -> tuple[int, ...]:
    """One value for every spatial axis."""
    if not isinstance(value, (list, tuple)) and not hasattr(value, "__index__"):
        raise ArgumentError(f"{name}={value!r} must be an int, or a tuple of {n} ints")
    out = tuple(value) if isinstance(value, (list, tuple)) else (value if isinstance(value, int) else index(value),) * n
    if len(out) != n:
        raise ArgumentError(f"{name} needs {n} values, one for each spatial axis, got {value!r}")
    if any(isinstance(v, int) and abs(v) > LARGEST for v in out):
        raise ArgumentError(f"{name}={value!r}: no spatial axis is longer than {LARGEST}")
    return out


def padding_pairs(padding: str, sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> tuple:
    """(before, after) for every axis. "same": the output has ceil(size / stride) elements; an odd total puts the extra one after."""
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    if padding != "same":
        raise ArgumentError(f"padding is 'valid' or 'same', not {padding!r}")
    out = []
    for n, k, s, d in zip(sizes, window, strides, dilation):
        reach = (k - 1) * d + 1
        total = reach - 1 if s == 1 else dim_max((ceil_div(n, s) - 1) * s + reach - n, 0)
        out.append((total // 2, total - total // 2))
    return tuple(out)


def channels_last(x: Node, data_format: str | None) -> Node:
    """(N, C, *spatial) to (N, *spatial, C) where the format is channels first."""
    if config.standardize_data_format(data_format) == "channels_last":
        return x
    return F.transpose(x, [0, *range(2, x.rank), 1])


def restored(x: Node, data_format: str | None) -> Node:
    """The other way round."""
    if config.standardize_data_format(data_format) == "channels_last":
        return x
    return F.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def _check_positive(name: str, x: Node, window: Sequence[int], pads: Sequence, dilation: Sequence[int]) -> None:
    for i, (n, k, (lo, hi), d) in enumerate(zip(x.shape[1:-1], window, pads, dilation)):
        if type(n) is not Dim and n + lo + hi < (k - 1) * d + 1:
            raise ShapeError(f"{name}: a window of {(k - 1) * d + 1} doesn't fit spatial axis {i} of size {n} (input {known_shape(x.shape)}, channels last); "
                             "use padding='same', a smaller window, or a larger input")


def convolve(x: Node, kernel: Node, strides: Any, padding: str, data_format: str | None, dilation_rate: Any, groups: int, name: str = "ops.conv") -> Node:
    """The convolution of x (channels as ``data_format``) with kernel (*window, C / groups, O)."""
    x, kernel = operands(name, x, kernel)
    n = x.rank - 2
    if n < 1 or kernel.rank != x.rank:
        raise ShapeError(f"{name}: an input of shape {known_shape(x.shape)} and a kernel of shape {known_shape(kernel.shape)} don't fit: both have the spatial axes and two more")
    if padding == "causal" and n != 1:
        raise ArgumentError(f"{name}: padding='causal' is for one spatial axis, the input has {n}")
    strides, dilation = per_axis(strides, n, "strides"), per_axis(dilation_rate, n, "dilation_rate")
    x = channels_last(x, data_format)
    window = kernel.shape[:-2]
    pads = (((window[0] - 1) * dilation[0], 0),) if padding == "causal" else padding_pairs(padding, x.shape[1:-1], window, strides, dilation)
    _check_positive(name, x, window, pads, dilation)
    return restored(F.conv(x, kernel, strides, pads, dilation, groups), data_format)


@operation(NN, 2)
def conv(inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1) -> Any:
    """Convolution; the number of groups follows from the channels of input and kernel."""
    x, w = F.constant(inputs), F.constant(kernel)
    channels = x.shape[-1 if config.standardize_data_format(data_format) == "channels_last" else 1]
    if w.rank < 3 or channels % w.shape[-2] != 0:
        raise ShapeError(f"ops.conv: {channels} input channels are no multiple of the kernel's {w.shape[-2] if w.rank > 1 else None} "
                         f"(kernel {known_shape(w.shape)}: window, channels, filters)")
    return convolve(x, w, strides, padding.lower(), data_format, dilation_rate, channels // w.shape[-2])


@operation(NN, 2)
def depthwise_conv(inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1) -> Any:
    """Every channel with its own filters: kernel (*window, C, multiplier)."""
    x, w = F.constant(inputs), F.constant(kernel)
    channels = w.shape[-2]
    w = F.reshape(w, (*w.shape[:-2], 1, channels * w.shape[-1]))
    return convolve(x, w, strides, padding.lower(), data_format, dilation_rate, channels, "ops.depthwise_conv")


@operation(NN, 3)
def separable_conv(inputs: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
                   dilation_rate: Any = 1) -> Any:
    x = depthwise_conv.operation.body(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return convolve(x, F.constant(pointwise_kernel), 1, "valid", data_format, 1, 1, "ops.separable_conv")


@operation(NN, 2)
def conv_transpose(inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", output_padding: Any = None, data_format: str | None = None,
                   dilation_rate: Any = 1) -> Any:
    """The transposed convolution with kernel (*window, filters, channels): the gradient of the convolution from filters to channels.

    Sizes are Keras': see ``layers.Conv2DTranspose``. ``inputs`` is the convolution's result for an image of size (n - 1) * stride + left + right -
    reach + 2, where left and right are the zeros that XLA puts around the dilated input.
    """
    x, w = operands("ops.conv_transpose", inputs, kernel)
    n = x.rank - 2
    if n < 1 or w.rank != x.rank:
        raise ShapeError(f"ops.conv_transpose: an input of shape {known_shape(x.shape)} and a kernel of shape {known_shape(w.shape)} don't fit: both have "
                         "the spatial axes and two more")
    padding = padding.lower()
    if padding not in ("valid", "same"):
        raise ArgumentError(f"ops.conv_transpose: padding is 'valid' or 'same', not {padding!r}")
    strides, dilation = per_axis(strides, n, "strides"), per_axis(dilation_rate, n, "dilation_rate")
    extra = (None,) * n if output_padding is None else per_axis(output_padding, n, "output_padding")
    x = channels_last(x, data_format)
    if x.shape[-1] != w.shape[-1]:
        raise ShapeError(f"ops.conv_transpose: the input has {x.shape[-1]} channels, the kernel {known_shape(w.shape)} (window, filters, channels) is for {w.shape[-1]}")
    sizes, pads = [], []
    for size, k, s, d, more in zip(x.shape[1:-1], w.shape[:-2], strides, dilation, extra):
        reach = (k - 1) * d + 1
        if padding == "valid":
            left, right = reach - 1, reach - 1 + (max(reach, s) - reach if more is None else more)
        else:
            total = s + reach - 2 if more is None else reach + reach % 2 - 2 + more
            left = min(total // 2 + total % 2, reach - 1)
            right = total - left
        sizes.append((size - 1) * s + left + right - reach + 2)
        pads.append((reach - 1 - left, max(reach - 1 - right, 0)))
    return restored(F.conv_transpose(x, w, tuple(sizes), strides, tuple(pads), dilation), data_format)


def pool(x: Node, pool_size: Any, strides: Any, padding: str, data_format: str | None, mean: bool, name: str) -> Node:
    n = x.rank - 2
    if n < 1:
        raise ShapeError(f"{name}: needs spatial axes between batch and channels, got shape {known_shape(x.shape)}")
    window = per_axis(pool_size, n, "pool_size")
    strides = window if strides is None else per_axis(strides, n, "strides")
    x = channels_last(x, data_format)
    pads = padding_pairs(padding.lower(), x.shape[1:-1], window, strides, (1,) * n)
    _check_positive(name, x, window, pads, (1,) * n)
    fn = F.avg_pool if mean else F.max_pool
    return restored(fn(x, window, strides, pads), data_format)


@operation(NN)
def max_pool(inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None) -> Any:
    return pool(F.constant(inputs), pool_size, strides, padding, data_format, False, "ops.max_pool")


@operation(NN)
def average_pool(inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None) -> Any:
    """Means of windows; padded elements don't count."""
    return pool(F.constant(inputs), pool_size, strides, padding, data_format, True, "ops.average_pool")


def _adaptive(inputs: Any, output_size: Any, data_format: str | None, fn: Any, name: str) -> Node:
    x = F.constant(inputs)
    if x.rank < 3:
        raise ShapeError(f"{name}: needs spatial axes between batch and channels, got shape {known_shape(x.shape)}")
    sizes = per_axis(output_size, x.rank - 2, "output_size")
    return restored(fn(channels_last(x, data_format), sizes), data_format)


@operation(NN)
def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """Means over ``output_size`` windows that cover each spatial axis."""
    return _adaptive(inputs, output_size, data_format, F.adaptive_avg_pool, "ops.adaptive_average_pool")


@operation(NN)
def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """Maxima over ``output_size`` windows that cover each spatial axis."""
    return _adaptive(inputs, output_size, data_format, F.adaptive_max_pool, "ops.adaptive_max_pool")


@operation(NN)
def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows of images (N, C, H, W) beside each other: (N, C * window, number of windows)."""
    x = F.constant(x)
    if x.rank != 4:
        raise ShapeError(f"ops.unfold needs images (N, C, H, W), got shape {known_shape(x.shape)}")
    window, dilation, padding, stride = _windows(kernel_size, dilation, padding, stride)
    columns = F.im2col(F.transpose(x, (0, 2, 3, 1)), window, stride, padding, dilation)  # (N, oh, ow, kh, kw, C)
    n, c, (h, w) = x.shape[0], x.shape[1], columns.shape[1:3]
    return F.reshape(F.transpose(columns, (0, 5, 3, 4, 1, 2)), (n, c * window[0] * window[1], h * w))


@operation(NN)
def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Images (N, C, *output_size) that are the sums of windows (N, C * window, number of windows) laid where ``unfold`` reads."""
    x = F.constant(x)
    sizes = per_axis(output_size, 2, "output_size")
    window, dilation, padding, stride = _windows(kernel_size, dilation, padding, stride)
    count = window[0] * window[1]
    places = [(s + 2 * p - (k - 1) * d - 1) // t + 1 for s, p, k, d, t in zip(sizes, padding, window, dilation, stride)]
    if x.rank != 3 or x.shape[1] % count != 0 or x.shape[2] != places[0] * places[1]:
        raise ShapeError(f"ops.fold: images of {sizes} have {places[0]} x {places[1]} windows of {count} elements a channel, got shape {known_shape(x.shape)}")
    apart = F.reshape(x, (x.shape[0], x.shape[1] // count, *window, *places))
    columns = F.transpose(apart, (0, 4, 5, 2, 3, 1))
    return F.transpose(F.col2im(columns, sizes, stride, padding, dilation), (0, 3, 1, 2))


def _windows(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> list[tuple[int, ...]]:
    return [per_axis(v, 2, n) for v, n in ((kernel_size, "kernel_size"), (dilation, "dilation"), (padding, "padding"), (stride, "stride"))]


__all__ = [
    "adaptive_average_pool", "adaptive_max_pool", "average_pool", "conv", "conv_transpose", "depthwise_conv", "fold", "max_pool",
    "separable_conv", "unfold",
]
