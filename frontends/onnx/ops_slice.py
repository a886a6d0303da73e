"""Operators that cut, join, repeat and pad tensors."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, ceil_div, key, size
from ...runtime.dtype import int64
from .call import Call
from .ops_elementwise import cast_target
from .ops_shape import SMALL, negative
from .registry import fold, operator


@operator("Concat")
def _concat(call: Call) -> Node:
    xs = call.nodes()
    axis = call.normal(call.attr("axis", 1 if call.version < 4 else None), xs[0].rank)
    for x in xs[1:]:
        if x.dtype is not xs[0].dtype:
            raise call.invalid(f"joins {xs[0].type} and {x.type}")
    return ops.concat(xs, axis)


def _split_sizes(call: Call, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    n = call.n_outputs
    sizes = call.attr("split", None) if call.version < 13 else call.ints(1) if call.has(1) else None
    if sizes is None:
        parts = call.attr("num_outputs", n) if call.version >= 18 else n
        chunk = ceil_div(shape[axis], parts)
        if call.version < 18 and shape[axis] % parts != 0:
            raise call.invalid(f"can't split {list(shape)} into {parts} equal parts along axis {axis}")
        sizes = (chunk,) * (parts - 1) + (shape[axis] - chunk * (parts - 1),)
    if len(sizes) != n or any(negative(s) for s in sizes) or sum(sizes) != shape[axis]:
        raise call.invalid(f"can't split axis {axis} of {list(shape)} into {n} parts of sizes {list(sizes)}")
    return tuple(sizes)


@operator("Split")
def _split(call: Call) -> tuple[Node, ...]:
    x, axis = call.node(0), call.axis()
    return tuple(ops.split(x, _split_sizes(call, x.shape, axis), axis))


def _ranges(call: Call, shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, count, step) per axis of ONNX's Slice, clamped to the shape as the standard says."""
    rank = len(shape)
    if call.version < 10:
        starts, ends = call.attr("starts"), call.attr("ends")
        axes, steps = call.attr("axes", tuple(range(len(starts)))), (1,) * len(starts)
    else:
        starts, ends = call.ints(1), call.ints(2)
        axes = call.plain_ints(3) if call.has(3) else tuple(range(len(starts)))
        steps = call.plain_ints(4) if call.has(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise call.invalid(f"has starts {list(starts)}, ends {list(ends)}, axes {list(axes)}, steps {list(steps)}")
    out = [(0, d, 1) for d in shape]
    for start, end, axis, step in zip(starts, ends, call.normal_axes(axes, rank), steps):
        n = shape[axis]
        if step > 0:
            start, end = _clamped(start, n, 0, n), _clamped(end, n, 0, n)
            count = ceil_div(end - start, step)
        else:
            start, end = _clamped(start, n, -1, n - 1), _clamped(end, n, -1, n - 1)
            count = ceil_div(start - end, -step)
        out[axis] = (start, 0 if count <= 0 else count, step)
    return out


def _clamped(i: int, n: int, low: int, high: int) -> int:
    """A slice bound: negative counts from the end, then clamped to [low, high]. Compares (recording guards) only where it must.
    """
    if key(i) == key(n) and key(high) == key(n):
        return i
    if type(i) is not Dim and abs(i) > 2**48:  # "to the end", whatever the size
        return high if i > 0 else low
    if i < 0:
        i = i + n
    return low if i < low else high if i > high else i


@operator("Slice")
def _slice(call: Call) -> Node:
    x = call.node(0)
    starts, stops, steps = [], [], []
    for start, count, step in _ranges(call, x.shape):
        starts.append(start)
        stops.append(start + count * step)
        steps.append(step)
    return ops.slice_(x, tuple(starts), tuple(stops), tuple(steps))


@operator("Tile")
def _tile(call: Call) -> Node:
    x = call.node(0)
    if call.version < 6:
        axis, reps = call.scalar(2), [1] * x.rank
        reps[call.normal(axis, x.rank)] = call.scalar(1)
    else:
        reps = call.ints(1)
    if len(reps) != x.rank or any(negative(r) for r in reps):
        raise call.invalid(f"repeats {list(reps)} for rank {x.rank}")
    return ops.tile(x, tuple(reps))


@operator("Pad")
def _pad(call: Call) -> Node:
    x = call.node(0)
    mode = call.attr("mode", "constant")
    if call.version < 11:
        pads, value = call.attr("pads" if call.version >= 2 else "paddings"), call.attr("value")
    else:
        pads = call.ints(1)
        value = call.scalar(2) if call.has(2) and mode == "constant" else 0
    axes = tuple(range(x.rank))
    if call.version >= 18 and call.has(3):
        axes = call.normal_axes(call.plain_ints(3), x.rank)
    if len(pads) != 2 * len(axes):
        raise call.invalid(f"has {len(pads)} paddings for {len(axes)} axes")
    edges = [(0, 0)] * x.rank
    for i, a in enumerate(axes):
        edges[a] = (pads[i], pads[i + len(axes)])
    if mode == "constant":
        return ops.pad(x, tuple(edges), value)
    if mode not in ("edge", "reflect", "wrap"):
        raise call.invalid(f"mode={mode!r}", "mode")
    for axis, (low, high) in enumerate(edges):
        if not (type(low) is not Dim and low == 0 and type(high) is not Dim and high == 0):
            x = _pad_axis(call, x, axis, low, high, mode)
    return x


def _pad_axis(call: Call, x: Node, axis: int, low: int, high: int, mode: str) -> Node:
    """One axis padded by reading elements at computed places."""
    n = x.shape[axis]
    if n == 0:
        raise call.invalid(f"pads an axis of size 0 with mode {mode!r}")
    at = ops.sub(ops.iota((n + low + high,), 0, int64), low)
    if mode == "edge" or n == 1:
        at = ops.clip(at, 0, n - 1)
    elif mode == "wrap":
        at = ops.mod(at, n)
    else:
        at = ops.mod(at, 2 * (n - 1))
        at = ops.minimum(at, ops.sub(2 * (n - 1), at))
    return ops.take(x, at, axis)


@operator("Trilu")
def _trilu(call: Call) -> Node:
    x, k = call.node(0), call.scalar(1) if call.has(1) else 0
    if x.rank < 2:
        raise call.invalid(f"needs rank 2 or more, got {x.type}")
    rows, cols = ops.iota(x.shape[-2:], 0, int64), ops.iota(x.shape[-2:], 1, int64)
    reach = ops.add(rows, k)
    keep = ops.ge(cols, reach) if call.attr("upper") else ops.le(cols, reach)
    return ops.where(keep, x, ops.zeros_like(x))


@operator("EyeLike")
def _eye_like(call: Call) -> Node:
    shape = call.shape(0)
    if len(shape) != 2:
        raise call.invalid(f"needs rank 2, got {list(shape)}")
    dtype = cast_target(call, "dtype") if call.has_attr("dtype") else call.dtype(0)
    rows, cols = ops.iota(shape, 0, int64), ops.iota(shape, 1, int64)
    return ops.cast(ops.eq(cols, ops.add(rows, call.attr("k"))), dtype)


@operator("DepthToSpace")
def _depth_to_space(call: Call) -> Node:
    x, b = call.node(0), call.attr("blocksize")
    n, c, h, w = x.shape
    if b < 1 or c % (b * b) != 0:
        raise call.invalid(f"can't spread {x.type} over blocks of {b}", "blocksize")
    if call.attr("mode", "DCR") == "DCR":
        y = ops.transpose(ops.reshape(x, (n, b, b, c // (b * b), h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = ops.transpose(ops.reshape(x, (n, c // (b * b), b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return ops.reshape(y, (n, c // (b * b), h * b, w * b))


@operator("SpaceToDepth")
def _space_to_depth(call: Call) -> Node:
    x, b = call.node(0), call.attr("blocksize")
    n, c, h, w = x.shape
    if b < 1 or h % b != 0 or w % b != 0:
        raise call.invalid(f"can't cut {x.type} into blocks of {b}", "blocksize")
    order = (0, 3, 5, 1, 2, 4) if call.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = ops.transpose(ops.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return ops.reshape(y, (n, c * b * b, h // b, w // b))


@fold("Concat")
def _fold_concat(call: Call, *xs):
    if any(x.ndim == 0 for x in xs):
        raise call.invalid("joins scalars")
    return np.concatenate(
        [x.astype(object) for x in xs] if any(x.dtype == object for x in xs) else xs,
        call.normal(call.attr("axis", 1 if call.version < 4 else None), xs[0].ndim),
    )


@fold("Split")
def _fold_split(call: Call, x, sizes=None):
    if x.ndim == 0:
        return None
    axis = call.normal(call.attr("axis"), x.ndim)
    return np.split(x, np.cumsum(_split_sizes(call, x.shape, axis))[:-1], axis)


@fold("Slice")
def _fold_slice(call: Call, x, *_):
    for axis, (start, count, step) in enumerate(_ranges(call, x.shape)):
        x = np.take(x, start + step * np.arange(count), axis)
    return x


@fold("Tile")
def _fold_tile(call: Call, x, *_):
    reps = call.ints(1)
    if call.version < 6 or any(type(r) is Dim for r in reps) or size(reps) * x.size > SMALL or len(reps) != x.ndim:
        return None
    return np.tile(x, reps)
