"""Reductions."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, size
from ...runtime.dtype import float32, int64
from .call import Call
from .registry import fold, operator

# The opset in which axes became an input.
_AXES_INPUT = {"ReduceSum": 13}


def _axes(call: Call, rank: int) -> tuple[int, ...] | None:
    """The axes to reduce, None for "leave the tensor as it is"."""
    if call.version < _AXES_INPUT.get(call.op, 18):
        axes = call.attr("axes", None)
    else:
        axes = call.plain_ints(1) if call.has(1) else None
        if not axes and call.attr("noop_with_empty_axes"):
            return None
    return call.normal_axes(axes, rank) if axes else tuple(range(rank))


@operator(
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
)
def _reduce(call: Call) -> Node:
    x, keep = call.node(0), bool(call.attr("keepdims"))
    axes = _axes(call, x.rank)
    if axes is None:
        axes = ()
    kind = call.op.removeprefix("Reduce")
    if kind in ("Max", "Min"):
        return (ops.max_ if kind == "Max" else ops.min_)(x, axes, keep)
    if kind == "Prod":
        return ops.prod(x, axes, keep)
    if kind == "Mean" and x.dtype.is_int:
        total = ops.cast(ops.sum_(ops.cast(x, int64), axes, keep), float32)
        return ops.cast(ops.div(total, size([x.shape[a] for a in axes])), x.dtype)
    if kind == "Mean":
        return ops.mean(x, axes, keep)
    if kind == "LogSumExp":
        f = x if x.dtype.is_float else ops.cast(x, float32)
        return ops.cast(ops.logsumexp(f, axes, keep), x.dtype)
    if kind == "L1":
        x = ops.abs_(x)
    elif kind in ("L2", "SumSquare"):
        x = ops.mul(x, x)
    total = ops.sum_(x, axes, keep)
    total = total if total.dtype is x.dtype else ops.cast(total, x.dtype)
    if kind in ("L2", "LogSum"):
        fn = ops.sqrt if kind == "L2" else ops.log
        return fn(total) if x.dtype.is_float else ops.cast(fn(ops.cast(total, float32)), x.dtype)
    return total


@operator("ArgMax", "ArgMin")
def _arg(call: Call) -> Node:
    x = call.node(0)
    axis, keep = call.axis(), bool(call.attr("keepdims"))
    fn = ops.argmax if call.op == "ArgMax" else ops.argmin
    if call.attr("select_last_index", 0):
        first = ops.cast(fn(ops.flip(x, (axis,)), axis, keep), int64)
        return ops.sub(x.shape[axis] - 1, first)
    return ops.cast(fn(x, axis, keep), int64)


@fold("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _fold_reduce(call: Call, x, axes=None):
    if not (x.dtype == object or x.dtype.kind in "iu") or x.ndim != 1:
        return None
    if _axes(call, 1) is None:
        return x
    values = [v if type(v) is Dim else int(v) for v in x]
    if call.op in ("ReduceMax", "ReduceMin"):
        if not values:
            return None
        out = max(values) if call.op == "ReduceMax" else min(values)
    elif call.op == "ReduceProd":
        out = size(values)
    else:
        out = sum(values)
    array = np.empty((1,) if call.attr("keepdims") else (), object)
    array[...] = out
    return array
