"""Reductions of ``ops`` over axes (None: all)."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from ....compiler.ops.lift import axes_tuple
from ....runtime.dim import Dim
from ....runtime.dtype import as_dtype, int32, uint32
from ....runtime.errors import ArgumentError, ShapeError
from ..tensor import known_shape
from .arithmetic import MATH, NUMPY, floating
from .define import operation

Axis = Any


def _wide(x: Any) -> Any:
    """Sums and products of narrow integers are taken in 32 bits, as in Keras."""
    if x.dtype.is_int and x.dtype.itemsize < 4:
        return F.cast(x, int32 if x.dtype.kind == "i" else uint32)
    return x


@operation(NUMPY)
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.sum_(_wide(F.constant(x)), axis, keepdims)


@operation(NUMPY)
def prod(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Any:
    return F.prod(_wide(F.constant(x)) if dtype is None else F.cast(x, as_dtype(dtype)), axis, keepdims)


@operation(NUMPY)
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.mean(floating(x), axis, keepdims)


@operation(NUMPY)
def var(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.var(floating(x), axis, keepdims)


@operation(NUMPY)
def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.sqrt(F.var(floating(x), axis, keepdims))


def _extreme(x: Any, axis: Axis, keepdims: bool, initial: Any, fold: Any, two: Any) -> Any:
    x = F.constant(x)
    empty = [a for a in axes_tuple("ops.max", axis, x.rank) if type(x.shape[a]) is not Dim and x.shape[a] == 0]
    if initial is None and empty:
        raise ShapeError(f"the extreme of no elements: axis {axis} of a tensor of shape {known_shape(x.shape)}; give initial")
    out = fold(x, axis, keepdims)
    return out if initial is None else two(out, initial)


@operation(NUMPY)
def max(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Any:
    return _extreme(x, axis, keepdims, initial, F.max_, F.maximum)


@operation(NUMPY)
def min(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Any:
    return _extreme(x, axis, keepdims, initial, F.min_, F.minimum)


@operation(NUMPY)
def amax(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return _extreme(x, axis, keepdims, None, F.max_, F.maximum)


@operation(NUMPY)
def amin(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return _extreme(x, axis, keepdims, None, F.min_, F.minimum)


@operation(NUMPY)
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.any_(x, axis, keepdims)


@operation(NUMPY)
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.all_(x, axis, keepdims)


@operation(NUMPY)
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the greatest element, int32; the first of equal ones."""
    return F.argmax(x, axis, keepdims)


@operation(NUMPY)
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    return F.argmin(x, axis, keepdims)


@operation(NUMPY)
def count_nonzero(x: Any, axis: Axis = None) -> Any:
    return F.sum_(F.cast(F.ne(x, 0), as_dtype("int32")), axis)


@operation(NUMPY)
def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.sub(F.max_(x, axis, keepdims), F.min_(x, axis, keepdims))


@operation(NUMPY, ("x", "weights"))
def average(x: Any, axis: Axis = None, weights: Any = None) -> Any:
    """The mean, weighted where ``weights`` (of ``x``'s shape, or of the axis's size) are given."""
    x = floating(x)
    if weights is None:
        return F.mean(x, axis)
    w = floating(weights)
    if w.rank != x.rank:
        if w.rank != 1 or not isinstance(axis, int):
            raise ArgumentError(f"ops.average: weights of shape {known_shape(w.shape)} need an axis of x (shape {known_shape(x.shape)})")
        w = F.reshape(w, [w.shape[0] if i == axis % x.rank else 1 for i in range(x.rank)])
    w = F.broadcast_to(w, x.shape)
    return F.div(F.sum_(F.mul(x, w), axis), F.sum_(w, axis))


@operation(MATH)
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))), without overflow."""
    return F.logsumexp(floating(x), axis, keepdims)


@operation("keras.src.ops.nn")
def moments(x: Any, axes: Axis, keepdims: bool = False, synchronized: bool = False) -> Any:
    """(mean, variance) over axes."""
    x = floating(x)
    return F.mean(x, axes, keepdims), F.var(x, axes, keepdims)


__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "logsumexp", "max", "mean", "min", "moments",
    "prod", "ptp", "std", "sum", "var",
]
