"""Operators that read and write at computed places."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, size
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


def _linear(shape: tuple[int, ...], parts: list[Node]) -> Node:
    """Row-major positions in ``shape`` from positions per axis."""
    out = parts[0]
    for n, p in zip(shape[1:], parts[1:]):
        out = ops.add(ops.mul(out, n), p)
    return out


@operator("GatherElements")
def _gather_elements(call: Call) -> Node:
    x = call.node(0)
    axis = call.axis()
    return ops.take(ops.reshape(x, (size(x.shape),)), _element_positions(call, x, axis), 0)


def _element_positions(call: Call, x: Node, axis: int) -> Node:
    at = ops.cast(positions(call, 1, x.shape[axis]), int64)
    if at.rank != x.rank:
        raise call.invalid(f"has indices of rank {at.rank} for {x.type}")
    return _linear(x.shape, [at if a == axis else ops.iota(at.shape, a, int64) for a in range(x.rank)])


def _nd_positions(call: Call, x: Node, indices: Node, batch: int) -> tuple[Node, int]:
    """Flat positions over the first ``batch + k`` axes of ``x`` from index tuples of length k, and that number of axes."""
    k = indices.shape[-1]
    if type(k) is Dim:
        raise call.refuse("has index tuples of a free length")
    k = int(k)
    if not 1 <= k <= x.rank - batch:
        raise call.invalid(f"has index tuples of length {k} for {x.type}")
    outer = indices.shape[:-1]
    parts = [ops.iota(outer, a, int64) for a in range(batch)]
    for j in range(k):
        one = ops.slice_(indices, (0,) * (indices.rank - 1) + (j,), (*outer, j + 1))
        parts.append(from_start(ops.cast(ops.reshape(one, outer), int64), x.shape[batch + j]))
    return _linear(x.shape[: batch + k], parts), batch + k


@operator("GatherND")
def _gather_nd(call: Call) -> Node:
    x, indices = call.node(0), call.node(1)
    at, n = _nd_positions(call, x, indices, call.attr("batch_dims", 0))
    return ops.take(ops.reshape(x, (size(x.shape[:n]), *x.shape[n:])), at, 0)


def _scatter(call: Call, flat: Node, at: Node, updates: Node, shape: tuple[int, ...]) -> Node:
    """``updates`` written (or added) to the rows ``at`` of ``flat``."""
    reduction = call.attr("reduction", "none")
    rows = (size(at.shape),)
    at, updates = ops.reshape(at, rows), ops.reshape(updates, rows + flat.shape[1:])
    if reduction == "add":
        return ops.reshape(ops.scatter_add(flat, at, updates, 0), shape)
    if reduction != "none":
        raise call.refuse(f"reduces by {reduction!r}; none and add are compiled", attribute="reduction")
    # The standard wants distinct indices, so the sum of what is written to a place is what is written.
    wide = flat.dtype if flat.dtype.is_float or flat.dtype.is_int else int64
    new = ops.scatter_add(ops.full(flat.shape, 0, wide), at, ops.cast(updates, wide), 0)
    hit = ops.scatter_add(ops.full(flat.shape[:1], 0, int64), at, ops.full(rows, 1, int64), 0)
    hit = ops.reshape(ops.gt(hit, 0), flat.shape[:1] + (1,) * (flat.rank - 1))
    return ops.reshape(ops.where(hit, ops.cast(new, flat.dtype), flat), shape)


@operator("ScatterElements", "Scatter")
def _scatter_elements(call: Call) -> Node:
    x, updates = call.node(0), call.node(2)
    at = _element_positions(call, x, call.axis())
    return _scatter(call, ops.reshape(x, (size(x.shape),)), at, updates, x.shape)


@operator("ScatterND")
def _scatter_nd(call: Call) -> Node:
    x = call.node(0)
    at, n = _nd_positions(call, x, call.node(1), 0)
    return _scatter(call, ops.reshape(x, (size(x.shape[:n]), *x.shape[n:])), at, call.node(2), x.shape)


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
    at = _linear(two, [source, b] if time == 0 else [b, source])
    return ops.take(ops.reshape(x, (size(two), *x.shape[2:])), at, 0)


@operator("CumSum", "CumProd")
def _prefixes(call: Call) -> Node:
    """Sums (products) over prefixes by doubling: log2(n) additions of the shifted tensor."""
    x, axis = call.node(0), call.normal(int(call.scalar(1)), call.rank(0))
    fn, neutral = (ops.add, 0) if call.op == "CumSum" else (ops.mul, 1)
    if call.attr("reverse"):
        x = ops.flip(x, (axis,))
    if call.attr("exclusive"):
        x = _shifted(x, axis, 1, neutral)
    step = 1
    while step < x.shape[axis]:
        x = fn(x, _shifted(x, axis, step, neutral))
        step *= 2
    return ops.flip(x, (axis,)) if call.attr("reverse") else x


def _shifted(x: Node, axis: int, by: int, fill: int) -> Node:
    return ops.pad(x, tuple((by, -by) if a == axis else (0, 0) for a in range(x.rank)), fill)
