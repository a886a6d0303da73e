"""Products of ``ops``: matmul, einsum, tensordot and their kin."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from ....compiler.ops.lift import operands
from ....runtime.dtype import int8, int32
from ....runtime.errors import ArgumentError
from ..tensor import known_shape
from .arithmetic import NUMPY, floating
from .define import operation


@operation(NUMPY, 2)
def matmul(x1: Any, x2: Any) -> Any:
    """NumPy's matmul; a product of int8 is summed, and given, in int32, as in Keras."""
    a, b = operands("matmul", x1, x2)
    return F.matmul(a, b, accumulate=int32 if a.dtype is int8 and b.dtype is int8 else None)


@operation(NUMPY, variadic=True)
def einsum(subscripts: str, *operands: Any) -> Any:
    return F.einsum(subscripts.replace(" ", ""), *operands)


@operation(NUMPY, 2)
def dot(x1: Any, x2: Any) -> Any:
    """The last axis of x1 against the second to last of x2 (NumPy's dot)."""
    a, b = operands("dot", x1, x2)
    if a.rank == 0 or b.rank == 0:
        return F.mul(a, b)
    return F.dot_general(a, b, ((a.rank - 1,), (max(b.rank - 2, 0),)))


@operation(NUMPY, 2)
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    a, b = operands("tensordot", x1, x2)
    if isinstance(axes, int):
        left, right = tuple(range(a.rank - axes, a.rank)), tuple(range(axes))
    else:
        left, right = ((v,) if isinstance(v, int) else tuple(v) for v in axes)
        left, right = tuple(i % a.rank for i in left), tuple(i % b.rank for i in right)
    return F.dot_general(a, b, (left, right))


@operation(NUMPY, 2)
def outer(x1: Any, x2: Any) -> Any:
    a, b = operands("outer", x1, x2)
    return F.mul(F.reshape(a, (-1, 1)), F.reshape(b, (1, -1)))


@operation(NUMPY, 2)
def inner(x1: Any, x2: Any) -> Any:
    a, b = operands("inner", x1, x2)
    return F.mul(a, b) if not a.rank or not b.rank else F.dot_general(a, b, ((a.rank - 1,), (b.rank - 1,)))


@operation(NUMPY, 2)
def vdot(x1: Any, x2: Any) -> Any:
    return F.sum_(F.mul(F.reshape(x1, (-1,)), F.reshape(x2, (-1,))))


@operation(NUMPY, 2)
def cross(x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The vector product of 3-vectors along an axis."""
    a, b = operands("cross", x1, x2)
    if axis is not None:
        axisa = axisb = axisc = axis
    if a.shape[axisa] != 3 or b.shape[axisb] != 3:
        raise ArgumentError(f"ops.cross needs vectors of 3, got shapes {known_shape(a.shape)} and {known_shape(b.shape)}")

    def part(x: Any, at: int, i: int) -> Any:
        return F.squeeze(F.split(x, [1, 1, 1], at)[i], at)

    u, v = [part(a, axisa, i) for i in range(3)], [part(b, axisb, i) for i in range(3)]
    return F.stack([F.sub(F.mul(u[(i + 1) % 3], v[(i + 2) % 3]), F.mul(u[(i + 2) % 3], v[(i + 1) % 3])) for i in range(3)], axisc)


@operation("keras.src.ops.nn")
def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float | None = None) -> Any:
    """``x`` over its norms along ``axis``; norms below epsilon (1e-7) count as epsilon."""
    from .. import config

    x = floating(x)
    epsilon = config.epsilon() if epsilon is None else epsilon
    if order == 2:
        return F.mul(x, F.rsqrt(F.maximum(F.sum_(F.square(x), axis, True), epsilon**2)))
    norm = F.power(F.sum_(F.power(F.abs_(x), float(order)), axis, True), 1.0 / order)
    return F.div(x, F.maximum(norm, epsilon))


__all__ = [
    "cross", "dot", "einsum", "inner", "matmul", "normalize", "outer", "tensordot", "vdot",
]
