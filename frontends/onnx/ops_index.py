"""Operators that read and write at computed places."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim
from ...runtime.dtype import int64
from .call import Call
from .registry import fold, operator
from .values import Known, as_objects


def from_start(indices: Node, n: int) -> Node:
    """Indices where negative ones count from the end, as positions."""
    return ops.where(ops.lt(indices, 0), ops.add(indices, n), indices) if indices.dtype.kind == "i" else indices


def positions(call: Call, i: int, n: int) -> Node:
    """Input ``i`` as positions on an axis of ``n``: known indices are checked and made positive now, others in the kernel."""
    v = call.value(i)
    if isinstance(v, Known) and v.array.dtype != object and type(n) is not Dim:
        a = v.array.astype(np.int64)
        if ((a < -n) | (a >= n)).any():
            raise call.invalid(f"has an index outside [-{n}, {n})")
        return ops.constant(np.where(a < 0, a + n, a))
    return from_start(call.node(i), n)


@operator("Gather")
def _gather(call: Call) -> Node:
    x = call.node(0)
    if not x.rank:
        raise call.invalid("gathers from a scalar")
    axis = call.axis()
    return ops.take(x, positions(call, 1, x.shape[axis]), axis)


@fold("Gather")
def _fold_gather(call: Call, x, indices):
    axis = call.normal(call.attr("axis"), x.ndim)
    n = x.shape[axis]
    if indices.dtype == object or ((indices < -n) | (indices >= n)).any():
        return None if indices.dtype == object else _outside(call, n)
    out = np.take(x, np.asarray(indices), axis)
    return (
        Known(out if isinstance(out, np.ndarray) else as_objects(out), call.dtype(0))
        if x.dtype == object
        else np.asarray(out, x.dtype)
    )


def _outside(call: Call, n: int):
    raise call.invalid(f"has an index outside [-{n}, {n})")


@operator("GatherElements")
def _gather_elements(call: Call) -> Node:
    x, axis = call.node(0), call.axis()
    return ops.take_along_axis(x, positions(call, 1, x.shape[axis]), axis)


@operator("GatherND")
def _gather_nd(call: Call) -> Node:
    return ops.gather_nd(call.node(0), call.node(1), call.attr("batch_dims", 0), wrap=True)


_REDUCTIONS = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _reduction(call: Call) -> str:
    name = call.attr("reduction", "none")
    if name not in _REDUCTIONS:
        raise call.invalid(f"reduces by {name!r}, which is none of {', '.join(_REDUCTIONS)}", "reduction")
    return _REDUCTIONS[name]


@operator("ScatterElements", "Scatter")
def _scatter_elements(call: Call) -> Node:
    x, axis = call.node(0), call.axis()
    return ops.scatter_along_axis(x, positions(call, 1, x.shape[axis]), call.node(2), axis, _reduction(call))


@operator("ScatterND")
def _scatter_nd(call: Call) -> Node:
    return ops.scatter_nd(call.node(0), call.node(1), call.node(2), _reduction(call), wrap=True)


@operator("OneHot")
def _one_hot(call: Call) -> Node:
    indices, depth = call.node(0), call.scalar(1)
    depth = depth if type(depth) is Dim else int(depth)
    values = call.node(2)
    axis = call.normal(call.attr("axis"), indices.rank + 1)
    at = ops.cast(indices, int64) if not indices.dtype.is_float else ops.cast(ops.floor(indices), int64)
    at = from_start(at, depth)
    shape = at.shape[:axis] + (depth,) + at.shape[axis:]
    hit = ops.eq(ops.reshape(at, at.shape[:axis] + (1,) + at.shape[axis:]), ops.iota(shape, axis, int64))
    off, on = (ops.reshape(ops.slice_(values, (i,), (i + 1,)), ()) for i in range(2))
    return ops.where(hit, on, off)


@operator("ReverseSequence")
def _reverse_sequence(call: Call) -> Node:
    x, lengths = call.node(0), ops.cast(call.node(1), int64)
    batch, time = call.attr("batch_axis"), call.attr("time_axis")
    if {batch, time} != {0, 1}:
        raise call.invalid(f"reverses along axis {time} with batch axis {batch}")
    two = x.shape[:2]
    t, b = ops.iota(two, time, int64), ops.iota(two, batch, int64)
    n = ops.reshape(lengths, (1, two[1]) if batch == 1 else (two[0], 1))
    source = ops.where(ops.lt(t, n), ops.sub(ops.sub(n, t), 1), t)
    return ops.gather_nd(x, ops.stack([source, b] if time == 0 else [b, source], 2))
