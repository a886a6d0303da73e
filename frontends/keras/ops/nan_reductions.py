"""Reductions and running folds of ``ops`` that leave nan out."""

from __future__ import annotations

import math
from typing import Any

from ....compiler import ops as F
from ....compiler.ops.lift import axes_tuple
from ....runtime.dim import Dim
from ....runtime.dtype import int32
from ....runtime.errors import ShapeError
from ..tensor import known_shape
from . import reductions, sorting
from .arithmetic import NUMPY
from .define import operation

Axis = Any


def _filled(x: Any, value: float) -> Any:
    """``x`` with ``value`` in nan's place."""
    x = F.constant(x)
    return F.where(F.isnan(x), F.constant(value, x.dtype), x) if x.dtype.is_float else x


def _count(x: Any, axis: Axis, keepdims: bool, dtype: Any) -> Any:
    return F.sum_(F.cast(F.logical_not(F.isnan(x)), dtype), axis, keepdims)


def _extreme(name: str, x: Any, axis: Axis, keepdims: bool, fold: Any, outermost: float) -> Any:
    x = F.constant(x)
    if any(type(x.shape[a]) is not Dim and x.shape[a] == 0 for a in axes_tuple(f"ops.{name}", axis, x.rank)):
        raise ShapeError(f"ops.{name}: axis {axis} of a tensor of shape {known_shape(x.shape)} holds no elements")
    if not x.dtype.is_float:
        return fold(x, axis, keepdims)
    nothing = F.all_(F.isnan(x), axis, keepdims)
    return F.where(nothing, math.nan, fold(_filled(x, outermost), axis, keepdims))


@operation(NUMPY)
def nanmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The greatest element that is a number; nan where none is."""
    return _extreme("nanmax", x, axis, keepdims, F.max_, -math.inf)


@operation(NUMPY)
def nanmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The least element that is a number; nan where none is."""
    return _extreme("nanmin", x, axis, keepdims, F.min_, math.inf)


def _place(x: Any, axis: Axis, keepdims: bool, fold: Any, outermost: float) -> Any:
    x = F.constant(x)
    place = fold(_filled(x, outermost), axis, keepdims)
    return F.where(F.all_(F.isnan(x), axis, keepdims), F.constant(-1, int32), place) if x.dtype.is_float else place


@operation(NUMPY)
def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """int32 position of the greatest element that is a number; -1 where none is."""
    return _place(x, axis, keepdims, F.argmax, -math.inf)


@operation(NUMPY)
def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """int32 position of the least element that is a number; -1 where none is."""
    return _place(x, axis, keepdims, F.argmin, math.inf)


@operation(NUMPY)
def nansum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return reductions.sum.operation.body(_filled(x, 0.0), axis, keepdims)


@operation(NUMPY)
def nanprod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return reductions.prod.operation.body(_filled(x, 1.0), axis, keepdims)


@operation(NUMPY)
def nanmean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The mean of what is not nan; nan where all is."""
    x = F.constant(x)
    if not x.dtype.is_float:
        return reductions.mean.operation.body(x, axis, keepdims)
    return F.div(F.sum_(_filled(x, 0.0), axis, keepdims), _count(x, axis, keepdims, x.dtype))


def _variance(x: Any, axis: Axis, keepdims: bool) -> Any:
    x = F.constant(x)
    if not x.dtype.is_float:
        return reductions.var.operation.body(x, axis, keepdims)
    count = _count(x, axis, True, x.dtype)
    distance = F.sub(x, F.div(F.sum_(_filled(x, 0.0), axis, True), count))
    total = F.sum_(F.where(F.isnan(x), 0.0, F.square(distance)), axis, keepdims)
    return F.div(total, F.reshape(count, total.shape))


@operation(NUMPY)
def nanvar(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The variance of what is not nan; nan where all is."""
    return _variance(x, axis, keepdims)


@operation(NUMPY)
def nanstd(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.sqrt(_variance(x, axis, keepdims))


@operation(NUMPY)
def nancumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Running sums; nan counts as 0."""
    return sorting.cumsum.operation.body(_filled(x, 0.0), axis, dtype)


@operation(NUMPY)
def nancumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Running products; nan counts as 1."""
    return sorting.cumprod.operation.body(_filled(x, 1.0), axis, dtype)


__all__ = [
    "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar",
]
