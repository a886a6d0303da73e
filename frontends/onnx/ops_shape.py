"""Operators that move elements, and those that compute with shapes."""

from __future__ import annotations

import numpy as np

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, ceil_div, key, size, unguarded
from ...runtime.dtype import as_dtype, int64
from .call import Call
from .registry import fold, operator
from .values import Known, Value, as_objects, known

SMALL = 4096  # integers of at most this many elements stay known while importing


@operator("Shape")
def _shape(call: Call) -> Known:
    shape = call.shape(0)
    if call.version >= 15:
        n = len(shape)
        start, end = call.attr("start"), call.attr("end", n)
        start = max(0, min(n, start + n if start < 0 else start))
        end = max(0, min(n, end + n if end < 0 else end))
        shape = shape[start:end]
    return known(as_objects(shape), int64)


@operator("Size")
def _size(call: Call) -> Known:
    return known(as_objects(size(call.shape(0))), int64)


@operator("Constant")
def _constant(call: Call) -> Known:
    given = [
        a
        for a in (
            "value",
            "sparse_value",
            "value_int",
            "value_ints",
            "value_float",
            "value_floats",
            "value_string",
            "value_strings",
        )
        if call.has_attr(a)
    ]
    if len(given) != 1:
        raise call.invalid(f"has {len(given)} values")
    name = given[0]
    value = call.attr(name)
    if name in ("value", "sparse_value"):
        return known(value)
    if "string" in name:
        raise call.refuse("is a string, which kerogen does not compute with", attribute=name)
    return known(np.array(value, np.int64 if "int" in name else np.float32))


@operator("ConstantOfShape")
def _constant_of_shape(call: Call) -> Value:
    shape = call.ints(0)
    value = call.attr("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise call.invalid(f"has a value of {value.size} elements", "value")
    if any(negative(d) for d in shape):
        raise call.invalid(f"asks for shape {list(shape)}")
    dtype = as_dtype(value.dtype)
    with unguarded():
        small = not any(type(d) is Dim for d in shape) and size(shape) <= SMALL
    if small and not dtype.is_float:
        return known(np.full(shape, value.reshape(())))
    return ops.full(shape, value.reshape(()).item(), dtype)


def negative(d: int) -> bool:
    return type(d) is not Dim and d < 0


@operator("Reshape")
def _reshape(call: Call) -> Node:
    if call.version < 5:
        shape = call.attr("shape")
    else:
        shape = call.ints(1)
    allowzero = call.attr("allowzero", 0) if call.version >= 14 else 0
    return ops.reshape(call.node(0), reshaped(call, call.shape(0), shape, allowzero))


def reshaped(call: Call, source: tuple[int, ...], target: tuple[int, ...], allowzero: int) -> tuple[int, ...]:
    """The shape that ONNX's Reshape asks for: 0 copies a size (unless ``allowzero``), one -1 is what remains."""
    out: list = []
    free = None
    for i, d in enumerate(target):
        if type(d) is not Dim and d == 0 and not allowzero:
            if i >= len(source):
                raise call.invalid(f"copies size {i} of a tensor of rank {len(source)}")
            d = source[i]
        elif type(d) is not Dim and d == -1:
            if free is not None:
                raise call.invalid(f"has two -1 in its shape {list(target)}")
            free = i
        elif negative(d):
            raise call.invalid(f"asks for shape {list(target)}")
        out.append(d)
    if free is not None:
        rest = size(out[:free] + out[free + 1 :])
        with unguarded():
            if rest == 0:
                raise call.invalid(f"can't tell the size of -1 in {list(target)} beside a size 0")
        out[free] = size(source) // rest
    return tuple(out)


@operator("Flatten")
def _flatten(call: Call) -> Node:
    x, axis = call.node(0), call.attr("axis")
    if not -x.rank <= axis <= x.rank:
        raise call.invalid(f"axis {axis} lies outside rank {x.rank}", "axis")
    axis = axis + x.rank if axis < 0 else axis
    return ops.reshape(x, (size(x.shape[:axis]), size(x.shape[axis:])))


@operator("Transpose")
def _transpose(call: Call) -> Node:
    x = call.node(0)
    perm = call.normal_axes(call.attr("perm", tuple(range(x.rank))[::-1]), x.rank)
    if len(perm) != x.rank:
        raise call.invalid(f"perm {list(perm)} for rank {x.rank}", "perm")
    return ops.transpose(x, perm)


def _axes(call: Call, since: int, i: int = 1) -> tuple[int, ...] | None:
    """The axes of Squeeze and its like: an attribute before opset ``since``, then input ``i``; None where absent."""
    if call.version < since:
        return call.attr("axes", None)
    return call.plain_ints(i) if call.has(i) else None


@operator("Squeeze")
def _squeeze(call: Call) -> Node:
    x, axes = call.node(0), _axes(call, 13)
    axes = tuple(i for i, d in enumerate(x.shape) if d == 1) if axes is None else call.normal_axes(axes, x.rank)
    return ops.reshape(x, _squeezed(call, x.shape, axes))


def _squeezed(call: Call, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    for a in axes:
        if shape[a] != 1:
            raise call.invalid(f"squeezes axis {a} of {list(shape)}, which is not of size 1")
    return tuple(d for i, d in enumerate(shape) if i not in axes)


@operator("Unsqueeze")
def _unsqueeze(call: Call) -> Node:
    x = call.node(0)
    return ops.reshape(x, _unsqueezed(call, x.shape))


def _unsqueezed(call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _axes(call, 13)
    if axes is None:
        raise call.invalid("has no axes")
    rank = len(shape) + len(axes)
    axes = call.normal_axes(axes, rank)
    rest = iter(shape)
    return tuple(1 if i in axes else next(rest) for i in range(rank))


@operator("Expand")
def _expand(call: Call) -> Node:
    x, target = call.node(0), call.ints(1)
    return ops.broadcast_to(x, broadcast(call, x.shape, target))


def broadcast(call: Call, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Two shapes broadcast together (Dims compared as expressions where they can be)."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    out = []
    for m, n in zip(a, b):
        if key(m) == key(n) or (type(n) is not Dim and n == 1):
            out.append(m)
        elif type(m) is not Dim and m == 1:
            out.append(n)
        elif m == n or n == 1:
            out.append(m)
        elif m == 1:
            out.append(n)
        else:
            raise call.invalid(f"can't broadcast {list(a)} with {list(b)}")
    return tuple(out)


@operator("Range")
def _range(call: Call) -> Value:
    dtype = call.dtype(0)
    start, limit, delta = (call.scalar(i) for i in range(3))
    if delta == 0:
        raise call.invalid("has a step of 0")
    if dtype.is_float:
        count = max(0, int(np.ceil((limit - start) / delta)))
    else:
        count = ceil_div(limit - start, delta) if delta > 0 else ceil_div(start - limit, -delta)
        if type(count) is not Dim:
            count = max(count, 0)
    if type(count) is not Dim and count <= SMALL and not any(type(v) is Dim for v in (start, delta)) and dtype.is_int:
        return known((start + np.arange(count) * delta).astype(dtype.np))
    at = ops.iota((count,), 0, dtype)
    return ops.add(ops.mul(at, delta), start)


@fold("Reshape")
def _fold_reshape(call: Call, x, shape=None):
    target = call.attr("shape") if call.version < 5 else call.ints(1)
    return x.reshape(reshaped(call, x.shape, target, call.attr("allowzero", 0) if call.version >= 14 else 0))


@fold("Squeeze")
def _fold_squeeze(call: Call, x, axes=None):
    axes = _axes(call, 13)
    axes = tuple(i for i, d in enumerate(x.shape) if d == 1) if axes is None else call.normal_axes(axes, x.ndim)
    return x.reshape(_squeezed(call, x.shape, axes))


@fold("Unsqueeze")
def _fold_unsqueeze(call: Call, x, axes=None):
    return x.reshape(_unsqueezed(call, x.shape))


@fold("Transpose")
def _fold_transpose(call: Call, x):
    if x.dtype.kind == "f":
        return None
    return x.transpose(call.attr("perm", None))


@fold("Expand")
def _fold_expand(call: Call, x, shape):
    target = call.ints(1)
    if any(type(d) is Dim for d in target) or size(target) > SMALL:
        return None
    return np.broadcast_to(x, broadcast(call, x.shape, target))
