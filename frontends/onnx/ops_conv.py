"""Convolutions and pooling. ONNX's NCHW becomes the compiler's channels-last by a transposition on either side, which cancel
between neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, ceil_div, dim_max, size
from ...runtime.dtype import float32, int64
from .call import Call
from .ops_nn import per_channel
from .registry import operator

Padding = tuple[tuple[int, int], ...]


def channels_last(x: Node) -> Node:
    """(N, C, *spatial) to (N, *spatial, C)."""
    return ops.transpose(x, (0, *range(2, x.rank), 1))


def channels_first(x: Node) -> Node:
    """(N, *spatial, C) to (N, C, *spatial)."""
    return ops.transpose(x, (0, x.rank - 1, *range(1, x.rank - 1)))


class Window:
    """The window attributes of a convolution or pooling: ``kernel``, ``strides``, ``dilations``, ``padding`` (low, high) per
    spatial axis.

    ``extra`` is what ``ceil_mode`` adds behind the high padding, per axis.
    """

    def __init__(self, call: Call, spatial: Sequence[int], kernel: Sequence[int]) -> None:
        n = len(spatial)
        self.kernel = tuple(kernel)
        self.strides = tuple(call.attr("strides", (1,) * n))
        self.dilations = tuple(call.attr("dilations", (1,) * n))
        pads = tuple(call.attr("pads", (0,) * 2 * n))
        if len(self.kernel) != n or len(self.strides) != n or len(self.dilations) != n or len(pads) != 2 * n:
            raise call.invalid(
                f"has kernel {list(self.kernel)}, strides {list(self.strides)}, dilations {list(self.dilations)},"
                f" pads {list(pads)}"
                f" for {n} spatial axes",
                "pads",
            )
        if any(k < 1 for k in (*self.kernel, *self.strides, *self.dilations)) or any(type(p) is not Dim and p < 0 for p in pads):
            raise call.invalid("has a kernel, stride or dilation below 1, or a negative padding", "strides")
        self.reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))
        auto = call.attr("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            self.padding = tuple(_same(m, r, s, auto == "SAME_LOWER") for m, r, s in zip(spatial, self.reach, self.strides))
        elif auto in ("NOTSET", "VALID", ""):
            self.padding = tuple((0, 0) if auto == "VALID" else (pads[i], pads[i + n]) for i in range(n))
        else:
            raise call.invalid(f"auto_pad={auto!r}", "auto_pad")
        self.extra = (0,) * n
        if call.attr("ceil_mode", 0) and auto in ("NOTSET", ""):
            self.extra = tuple(
                _overhang(m, lo, hi, r, s) for m, (lo, hi), r, s in zip(spatial, self.padding, self.reach, self.strides)
            )
        for m, (lo, hi), x, r in zip(spatial, self.padding, self.extra, self.reach):
            if m + lo + hi + x < r:
                raise call.invalid(
                    f"has a window of {list(self.reach)} on {list(spatial)} padded by {list(self.padding)}", "kernel_shape"
                )

    @property
    def full_padding(self) -> Padding:
        return tuple((lo, hi + x) for (lo, hi), x in zip(self.padding, self.extra))


def _same(n: int, reach: int, stride: int, lower: bool) -> tuple[int, int]:
    """Padding that gives ceil(n / stride) results; the odd element goes to the end, or to the start if ``lower``."""
    total = dim_max((ceil_div(n, stride) - 1) * stride + reach - n, 0)
    half = total // 2
    return (total - half, half) if lower else (half, total - half)


def _overhang(n: int, lo: int, hi: int, reach: int, stride: int) -> int:
    """How far the last window of ``ceil_mode`` reaches behind the padding; a window that would start there is dropped."""
    count = ceil_div(n + lo + hi - reach, stride) + 1
    if (count - 1) * stride >= n + lo:
        count = count - 1
    return dim_max((count - 1) * stride + reach - (n + lo + hi), 0)


@operator("Conv")
def _conv(call: Call) -> Node:
    x, w = call.node(0), call.node(1)
    y = convolve(call, x, w)
    return ops.add(y, per_channel(call.node(2), y.rank)) if call.has(2) else y


def convolve(call: Call, x: Node, w: Node) -> Node:
    groups = call.attr("group")
    if x.rank < 3 or w.rank != x.rank:
        raise call.invalid(f"needs an image and a kernel of one rank >= 3, got {x.type} and {w.type}")
    if x.dtype is not w.dtype:
        raise call.invalid(f"has an image of {x.dtype} and a kernel of {w.dtype}")
    if groups < 1 or w.shape[1] * groups != x.shape[1] or w.shape[0] % groups != 0:
        raise call.invalid(
            f"has {x.shape[1]} channels and {w.shape[0]} filters of {w.shape[1]} channels in {groups} groups", "group"
        )
    kernel = tuple(call.attr("kernel_shape", w.shape[2:]))
    if kernel != tuple(w.shape[2:]):
        raise call.invalid(f"states kernel {list(kernel)} and has {list(w.shape[2:])}", "kernel_shape")
    window = Window(call, x.shape[2:], kernel)
    out = ops.conv(
        channels_last(x), ops.transpose(w, (*range(2, w.rank), 1, 0)), window.strides, window.padding, window.dilations, groups
    )
    return channels_first(out)


@operator("ConvTranspose")
def _conv_transpose(call: Call) -> Node:
    x, w = call.node(0), call.node(1)
    groups, n = call.attr("group"), x.rank - 2
    if x.rank < 3 or w.rank != x.rank:
        raise call.invalid(f"needs an image and a kernel of one rank >= 3, got {x.type} and {w.type}")
    if groups < 1 or w.shape[0] != x.shape[1] or x.shape[1] % groups != 0:
        raise call.invalid(f"has {x.shape[1]} channels and kernels for {w.shape[0]} in {groups} groups", "group")
    kernel = tuple(w.shape[2:])
    strides = tuple(call.attr("strides", (1,) * n))
    dilations = tuple(call.attr("dilations", (1,) * n))
    extra = tuple(call.attr("output_padding", (0,) * n))
    pads = tuple(call.attr("pads", (0,) * 2 * n))
    auto = call.attr("auto_pad", "NOTSET")
    if any(len(v) != n for v in (strides, dilations, extra)) or len(pads) != 2 * n:
        raise call.invalid(
            f"has strides {list(strides)}, dilations {list(dilations)}, pads {list(pads)} for {n} spatial axes", "pads"
        )
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations))
    spatial = x.shape[2:]
    full = tuple(s * (m - 1) + o + r for m, s, o, r in zip(spatial, strides, extra, reach))
    if call.has_attr("output_shape"):
        sizes = tuple(call.attr("output_shape"))[-n:]
        low = tuple(_low(f - t, auto != "SAME_UPPER") for f, t in zip(full, sizes))
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = tuple(m * s for m, s in zip(spatial, strides))
        low = tuple(_low(f - t, auto == "SAME_LOWER") for f, t in zip(full, sizes))
    else:
        sizes = tuple(f - pads[i] - pads[i + n] for i, f in enumerate(full))
        low = pads[:n]
    # The high padding that makes the convolution of the result have the image's size; negative where rows at the end are seen by
    # no window.
    edges = tuple((lo, s * (m - 1) + r - t - lo) for lo, s, m, r, t in zip(low, strides, spatial, reach, sizes))
    kernels = ops.transpose(w, (*range(2, w.rank), 1, 0))
    y = channels_first(ops.conv_transpose(channels_last(x), kernels, sizes, strides, edges, dilations, groups))
    return ops.add(y, per_channel(call.node(2), y.rank)) if call.has(2) else y


def _low(total: int, more_at_start: bool) -> int:
    """The padding at the start where ``total`` is split over both ends."""
    total = dim_max(total, 0)
    return total - total // 2 if more_at_start else total // 2


def _pooling(call: Call) -> tuple[Node, Window]:
    x = call.node(0)
    if x.rank < 3:
        raise call.invalid(f"needs a batch of images, got {x.type}")
    return x, Window(call, x.shape[2:], call.attr("kernel_shape"))


@operator("MaxPool")
def _max_pool(call: Call) -> Node | tuple[Node, ...]:
    x, w = _pooling(call)
    settings = channels_last(x), w.kernel, w.strides, w.full_padding, w.dilations
    if not call.wants(1):
        return channels_first(ops.max_pool(*settings))
    y, at = (channels_first(v) for v in ops.max_pool_with_positions(*settings))
    spatial = x.shape[2:]
    if call.attr("storage_order", 0):  # positions count along the first spatial axis first
        parts = []
        for n in reversed(spatial):
            parts.append(ops.mod(at, n))
            at = ops.floordiv(at, n)
        at = parts[0]
        for n, part in zip(reversed(spatial[:-1]), parts[1:]):
            at = ops.add(ops.mul(at, n), part)
    image = ops.add(ops.mul(ops.iota(at.shape, 0, int64), x.shape[1]), ops.iota(at.shape, 1, int64))
    return y, ops.add(ops.mul(image, size(spatial)), at)


@operator("MaxUnpool")
def _max_unpool(call: Call) -> Node:
    """``I`` numbers the elements of the tensor that was pooled; what no maximum came from is 0."""
    x, positions = call.node(0), call.node(1)
    n = x.rank - 2
    kernel = call.attr("kernel_shape")
    strides, pads = call.attr("strides", (1,) * n), call.attr("pads", (0,) * 2 * n)
    if len(kernel) != n or len(strides) != n or len(pads) != 2 * n:
        raise call.invalid(f"has kernel {list(kernel)}, strides {list(strides)}, pads {list(pads)} for {n} spatial axes", "pads")
    pooled = tuple(s * (m - 1) + k - pads[i] - pads[i + n] for i, (m, s, k) in enumerate(zip(x.shape[2:], strides, kernel)))
    inner = (*x.shape[:2], *pooled)
    y = ops.reshape(ops.max_unpool(x, positions, size(inner)), inner)
    if not call.has(2):
        return y
    wanted = tuple(call.ints(2))  # positions number the tensor of the sizes above; a larger one has zeros behind
    if len(wanted) != x.rank or any(a < b for a, b in zip(wanted, inner)):
        raise call.invalid(f"wants the shape {list(wanted)}, smaller than {list(inner)}")
    return ops.pad(y, tuple([(0, a - b) for a, b in zip(wanted, inner)]))


@operator("AveragePool")
def _average_pool(call: Call) -> Node:
    x, w = _pooling(call)
    total = ops.sum_pool(channels_last(x), w.kernel, w.strides, w.full_padding, w.dilations)
    # How many elements each window has: padding counts if asked, what ceil_mode adds never does. Known from sizes alone.
    dtype = x.dtype if x.dtype.itemsize >= 4 else float32
    ones = ops.full((1, *x.shape[2:], 1), 1, dtype)
    inner = w.padding if call.attr("count_include_pad", 0) else ((0, 0),) * len(w.kernel)
    if call.attr("count_include_pad", 0):
        ones = ops.pad(ones, ((0, 0), *inner, (0, 0)), 1)
        outer: Padding = tuple((0, e) for e in w.extra)
    else:
        outer = w.full_padding
    if all(type(p) is not Dim and p == 0 for pair in outer for p in pair):
        return channels_first(ops.div(total, size(w.kernel)))
    count = ops.sum_pool(ones, w.kernel, w.strides, outer, w.dilations)
    return channels_first(ops.cast(ops.div(ops.cast(total, dtype), count), x.dtype))


@operator("LpPool")
def _lp_pool(call: Call) -> Node:
    x, w = _pooling(call)
    p = float(call.attr("p"))
    total = ops.sum_pool(ops.power(ops.abs_(channels_last(x)), p), w.kernel, w.strides, w.full_padding, w.dilations)
    return channels_first(ops.power(total, 1 / p))


@operator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(call: Call) -> Node:
    x = call.node(0)
    axes = tuple(range(2, x.rank))
    if call.op == "GlobalMaxPool":
        return ops.max_(x, axes, True)
    if call.op == "GlobalAveragePool":
        return ops.mean(x, axes, True)
    p = float(call.attr("p"))
    return ops.power(ops.sum_(ops.power(ops.abs_(x), p), axes, True), 1 / p)
