"""Operators that sample images: resizing and computed grids."""

from __future__ import annotations

from math import floor

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...compiler.ops.resample import pinned
from .call import Call
from .registry import operator


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
