"""Operators that sample images: resizing, computed grids, regions, windows laid out beside each other."""

from __future__ import annotations

from math import floor

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...compiler.ops.resample import pinned
from ...compiler.ops.sampling import reflected
from ...runtime.dim import size as product
from ...runtime.dtype import float32
from .call import Call
from .ops_conv import channels_first, channels_last
from .registry import operator
from .report import Refusal


@operator("Resize")
def _resize(call: Call) -> Node:
    x = call.node(0)
    if call.version < 11:
        return _upsampled(call, x, [float(s) for s in call.static(1).reshape(-1)])
    axes = call.normal_axes(call.attr("axes", range(x.rank)), x.rank) if call.version >= 18 else tuple(range(x.rank))
    coordinates = call.attr("coordinate_transformation_mode")
    sizes, scales = _sizes_and_scales(call, x, axes)
    crops = coordinates == "tf_crop_and_resize"
    roi = [float(v) for v in call.static(1).reshape(-1)] if crops else None
    if roi is not None and len(roi) != 2 * len(axes):
        raise call.invalid(f"has a roi of {len(roi)} numbers for {len(axes)} axes")
    return ops.resize(
        x,
        sizes,
        axes,
        call.attr("mode"),
        coordinates,
        bool(call.attr("antialias", 0)),
        bool(call.attr("exclude_outside")),
        call.attr("nearest_mode"),
        call.attr("cubic_coeff_a"),
        scales,
        [(roi[i], roi[i + len(axes)]) for i in range(len(axes))] if roi is not None else None,
        call.attr("extrapolation_value") if crops else None,
    )


def _sizes_and_scales(call: Call, x: Node, axes: tuple[int, ...]) -> tuple[list[int], list[float] | None]:
    n = [x.shape[a] for a in axes]
    if call.has(3) and call.shape(3) != (0,):
        wanted = list(call.ints(3))
        if len(wanted) != len(axes):
            raise call.invalid(f"has {len(wanted)} sizes for {len(axes)} axes")
        policy = call.attr("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":
            return wanted, None
        pick = {"not_larger": min, "not_smaller": max}.get(policy)
        if pick is None:
            raise call.invalid(f"keep_aspect_ratio_policy={policy!r}", "keep_aspect_ratio_policy")
        n = [pinned(v) for v in n]
        scale = pick(pinned(w) / v for w, v in zip(wanted, n))
        return [floor(scale * v + 0.5) for v in n], [scale] * len(n)
    if not call.has(2):
        raise call.invalid("has neither scales nor sizes")
    scales = [float(s) for s in call.static(2).reshape(-1)]
    return _scaled(call, n, scales), scales


def _scaled(call: Call, n: list[int], scales: list[float]) -> list[int]:
    if len(scales) != len(n) or any(s <= 0 for s in scales):
        raise call.invalid(f"has scales {scales} for {len(n)} axes")
    return [v * int(s) if s.is_integer() else floor(pinned(v) * s) for v, s in zip(n, scales)]


@operator("Upsample")
def _upsample(call: Call) -> Node:
    if call.version < 7:
        scales = (1.0, 1.0, call.attr("height_scale"), call.attr("width_scale"))
    else:
        scales = call.attr("scales") if call.version < 9 else call.static(1).reshape(-1)
    return _upsampled(call, call.node(0), [float(s) for s in scales])


def _upsampled(call: Call, x: Node, scales: list[float]) -> Node:
    """The rule before opset 11: asymmetric coordinates; nearest takes the element below, where an axis shrinks the one above."""
    method = call.attr("mode")
    sizes = _scaled(call, list(x.shape), scales)
    for axis, (count, scale) in enumerate(zip(sizes, scales)):
        rounding = "ceil" if scale < 1 else "floor"
        x = ops.resize(x, [count], [axis], method, "asymmetric", rounding=rounding, scales=[scale])
    return x


@operator("CenterCropPad")
def _center_crop_pad(call: Call) -> Node:
    x, wanted = call.node(0), call.ints(1)
    axes = call.normal_axes(call.attr("axes", range(x.rank)), x.rank)
    if len(wanted) != len(axes):
        raise call.invalid(f"has {len(wanted)} sizes for {len(axes)} axes")
    widths: list[tuple[int, int]] = [(0, 0)] * x.rank
    for a, m in zip(axes, wanted):
        n = x.shape[a]
        more = m - n
        low = more // 2 if more >= 0 else -(-more // 2)
        widths[a] = (low, more - low)
    return ops.pad(x, tuple(widths))


@operator("GridSample")
def _grid_sample(call: Call) -> Node:
    x, grid = call.node(0), call.node(1)
    n = x.rank - 2
    mode, padding = call.attr("mode"), call.attr("padding_mode")
    method = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    boundary = {"zeros": "constant", "border": "border", "reflection": "mirror" if call.attr("align_corners") else "reflect"}
    if n < 1 or grid.rank != x.rank or grid.shape[-1] != n:
        raise call.invalid(f"samples {x.type} at {grid.type}")
    if padding not in boundary:
        raise call.invalid(f"padding_mode={padding!r}", "padding_mode")
    grid = grid if grid.dtype.is_float and grid.dtype.itemsize >= 4 else ops.cast(grid, float32)
    points = []
    for a in range(n):  # the grid's last axis names the last spatial axis first
        start = (0,) * (grid.rank - 1) + (n - 1 - a,)
        g = ops.squeeze(ops.slice_(grid, start, (*grid.shape[:-1], n - a)), grid.rank - 1)
        m = x.shape[2 + a]
        low, span = (0.0, m - 1) if call.attr("align_corners") else (-0.5, m)  # -1 and 1 lie here
        v = ops.add(ops.mul(ops.mul(ops.add(g, 1.0), span), 0.5), low)
        if method == "nearest":
            v = ops.round_(v)
        if padding != "zeros":
            fixed = ops.maximum(ops.minimum(v, m - 1), 0) if padding == "border" else reflected(v, low, span)
            from_low = ops.sub(v, low)
            v = ops.where(ops.logical_or(ops.lt(from_low, 0), ops.gt(from_low, span)), fixed, v)
        points.append(v)
    return channels_first(ops.sample(channels_last(x), ops.stack(points, -1), method, boundary[padding]))


@operator("RoiAlign")
def _roi_align(call: Call) -> Node:
    mode, samples = call.attr("mode"), call.attr("sampling_ratio")
    if mode not in ("avg", "max"):
        raise call.invalid(f"mode={mode!r}", "mode")
    if samples < 1:
        raise Refusal("sampling_ratio=0 makes the number of points depend on the regions' sizes", "set it to a number, such as 2", "sampling_ratio")
    half_pixel = call.version >= 16 and call.attr("coordinate_transformation_mode") == "half_pixel"
    size = call.attr("output_height"), call.attr("output_width")
    x = channels_last(call.node(0))
    return channels_first(ops.roi_align(x, call.node(1), call.node(2), size, samples, call.attr("spatial_scale"), half_pixel, mode == "max"))


@operator("Col2Im")
def _col2im(call: Call) -> Node:
    x, sizes, block = call.node(0), call.ints(1), call.ints(2)
    n = len(sizes)
    strides, dilation = (call.attr(name, (1,) * n) for name in ("strides", "dilations"))
    pads = call.attr("pads", (0,) * 2 * n)
    if not 1 <= n <= 3 or any(len(v) != m for v, m in ((block, n), (strides, n), (dilation, n), (pads, 2 * n))):
        raise call.invalid(f"has an image of {n} axes, blocks of {len(block)}, strides, dilations and pads of {len(strides)}, {len(dilation)} and {len(pads)}")
    counts = [(s + pads[i] + pads[n + i] - (b - 1) * d - 1) // t + 1 for i, (s, b, d, t) in enumerate(zip(sizes, block, dilation, strides))]
    if x.rank != 3 or x.shape[1] % product(block) != 0 or x.shape[2] != product(counts):
        raise call.invalid(f"has columns {x.type}; an image of {tuple(sizes)} has {product(counts)} blocks of {product(block)} elements")
    apart = ops.reshape(x, (x.shape[0], x.shape[1] // product(block), *block, *counts))
    columns = ops.transpose(apart, (0, *range(2 + n, 2 + 2 * n), *range(2, 2 + n), 1))
    return channels_first(ops.col2im(columns, sizes, strides, [(pads[i], pads[n + i]) for i in range(n)], dilation))
