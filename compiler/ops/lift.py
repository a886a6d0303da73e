"""From what a caller writes to nodes: constants, weak types of Python numbers, promotion, broadcasting, axes.

Python numbers take the type of the tensors they meet (as in JAX): an int or float beside a float32 tensor is float32, a float
beside
an int32 tensor makes both float32. NumPy arrays and NumPy scalars other than float64 keep their type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.dim import Dim, key, text
from ...runtime.dtype import DType, as_dtype, bool_, float32, int32, promote
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node, node
from .base import is_one, shape_text
from .constant import Full, array_op, full_op
from .convert import Cast
from .movement import Broadcast, Reshape


def is_scalar(x: Any) -> bool:
    """A Python number (or a ``Dim``, or a NumPy float64 scalar): weakly typed."""
    return isinstance(x, (bool, int, float)) and not isinstance(x, Node)


def constant(x: Any, dtype=None) -> Node:
    """A node for an array or number. Python floats are float32, ints int32, unless ``dtype`` says otherwise."""
    if isinstance(x, Node):
        return x if dtype is None else cast(x, dtype)
    if is_scalar(x):
        natural = bool_ if isinstance(x, bool) else float32 if isinstance(x, float) else int32
        return node(full_op((), x, natural if dtype is None else as_dtype(dtype)))
    a = np.asarray(x)
    if isinstance(x, (list, tuple)):  # nested Python numbers
        a = a.astype(float32.np) if a.dtype == np.float64 else a.astype(int32.np) if a.dtype == np.int64 else a
    if dtype is not None:
        a = Cast(as_dtype(dtype)).eval(np.asarray(a)) if a.dtype != as_dtype(dtype).np else a
    return node(array_op(a))


def full(shape: Sequence[int], value, dtype=None) -> Node:
    """``value`` (a number, or a scalar node) in every element of ``shape``."""
    return broadcast_to(constant(value, dtype), shape)


def zeros(shape: Sequence[int], dtype=None) -> Node:
    return full(shape, 0, dtype or float32)


def ones(shape: Sequence[int], dtype=None) -> Node:
    return full(shape, 1, dtype or float32)


def zeros_like(x, dtype=None) -> Node:
    x = constant(x)
    return full(x.shape, 0, dtype or x.dtype)


def ones_like(x, dtype=None) -> Node:
    x = constant(x)
    return full(x.shape, 1, dtype or x.dtype)


def cast(x, dtype) -> Node:
    """``x`` converted to ``dtype`` by value (see ``Cast``)."""
    dtype = as_dtype(dtype)
    if not isinstance(x, Node):
        return constant(x, dtype)
    if x.dtype is dtype:
        return x
    if isinstance(x.op, Full) and not isinstance(x.op.value, Dim):
        value = Cast(dtype).eval(np.asarray(x.op.value, x.dtype.np)[None])[0]
        return node(full_op(x.shape, float(value) if dtype.is_float else bool(value) if dtype is bool_ else int(value), dtype))
    return node(Cast(dtype), x)


def floating(x) -> Node:
    """``x``; integers and bool as float32."""
    x = constant(x)
    return x if x.dtype.is_float else cast(x, float32)


def broadcast_to(x, shape: Sequence[int]) -> Node:
    """``x`` repeated to ``shape`` by NumPy's rules."""
    x, shape = constant(x), tuple(shape)
    if key(x.shape) == key(shape):
        return x
    if isinstance(x.op, Full):
        Broadcast(shape).infer(x.type)
        return node(Full(shape, x.op.value, x.dtype))
    return node(Broadcast(shape), x)


def _sized(n: int) -> str:
    """A size in a message: a free one with the value that it has."""
    return repr(n) if type(n) is Dim else text(n)


def broadcast_shapes(name: str, *shapes: Sequence[int]) -> tuple[int, ...]:
    """NumPy's common shape; ``name`` is for the error."""
    out: list[int] = []
    for i in range(1, max(map(len, shapes), default=0) + 1):
        n: int = 1
        for shape in shapes:
            if len(shape) < i:
                continue
            m = shape[-i]
            if is_one(n):
                n = m
            elif is_one(m) or key(n) == key(m):
                continue
            elif n == m:
                n = m if type(n) is Dim else n  # a plain int where there is one
            elif n == 1:
                n = m
            elif m != 1:
                raise ShapeError(
                    f"{name}: shapes {' and '.join(map(shape_text, shapes))} can't be broadcast ({_sized(n)} against {_sized(m)})"
                )
        out.append(n)
    return tuple(reversed(out))


def common_dtype(*xs: Any) -> DType:
    """The type in which tensors and numbers meet."""
    dtype: DType | None = None
    for x in xs:
        if not is_scalar(x):
            d = x.dtype if isinstance(x, Node) else constant(x).dtype
            dtype = d if dtype is None else promote(dtype, d)
    for x in xs:
        if is_scalar(x):
            if isinstance(x, bool):
                dtype = dtype or bool_
            elif isinstance(x, float):
                dtype = dtype if dtype is not None and dtype.is_float else float32
            else:
                dtype = int32 if dtype is None or dtype is bool_ else dtype
    return dtype or float32


def operands(name: str, *xs: Any) -> tuple[Node, ...]:
    """The operands as nodes of one type (shapes as they are)."""
    dtype = common_dtype(*xs)
    return tuple([cast(x, dtype) for x in xs])


def broadcast(name: str, *xs: Node) -> tuple[Node, ...]:
    """Nodes of one shape."""
    if all(key(x.shape) == key(xs[0].shape) for x in xs[1:]):
        return xs
    shape = broadcast_shapes(name, *[x.shape for x in xs])
    return tuple([broadcast_to(x, shape) for x in xs])


def axes_tuple(name: str, axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axes in the order given, counted from the front; None means all. Raises for ones out of range or given twice."""
    if axes is None:
        return tuple(range(rank))
    given = tuple(axes) if isinstance(axes, (Sequence, np.ndarray)) else (axes,)
    if not all(isinstance(a, (int, np.integer)) for a in given):
        raise ArgumentError(f"{name}: an axis is an integer, or several as a tuple, not {axes!r}")
    out = tuple([int(a) + rank if a < 0 else int(a) for a in given])
    if any(not 0 <= a < rank for a in out):
        raise ShapeError(f"{name}: axes {given} are out of range for a tensor of rank {rank}")
    if len(set(out)) != len(out):
        raise ArgumentError(f"{name}: axes {given} name an axis twice")
    return out


def one_axis(name: str, axis: int, rank: int) -> int:
    return axes_tuple(name, axis, rank)[0]


def reshape(x, shape: int | Sequence[int]) -> Node:
    """``x`` under another shape; one size may be -1: what remains."""
    x = constant(x)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    open_ = [i for i, n in enumerate(shape) if type(n) is not Dim and n == -1]
    if len(open_) > 1 or any(type(n) is not Dim and n < -1 for n in shape):
        raise ShapeError(f"reshape: {shape_text(shape)} needs sizes >= 0 and at most one -1")
    if open_:
        known: int = 1
        for n in shape:
            if not (type(n) is not Dim and n == -1):
                known = known * n
        if type(known) is not Dim and known == 0:
            raise ShapeError(f"reshape of {shape_text(x.shape)} to {shape_text(shape)}: -1 is not determined beside a size of 0")
        rest = x.type.size // known
        shape = tuple([rest if i == open_[0] else n for i, n in enumerate(shape)])
    if key(shape) == key(x.shape):
        return x
    if isinstance(x.op, Full):
        Reshape(shape).infer(x.type)
        return node(Full(shape, x.op.value, x.dtype))
    if isinstance(x.op, Reshape):
        return reshape(x.inputs[0], shape)
    return node(Reshape(shape), x)
