"""Functions of ``ops`` about order: running sums and products, sorting, top-k, medians and quantiles."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from ....runtime.dtype import as_dtype, bool_, int32
from ....runtime.errors import ArgumentError, ShapeError
from ..tensor import known_shape
from .arithmetic import MATH, NUMPY, floating
from .define import operation

Axis = Any


def _running(fn: Any, name: str, x: Any, axis: int | None, dtype: Any) -> Any:
    x = F.constant(x)
    x = F.cast(x, as_dtype(dtype) if dtype is not None else int32 if x.dtype is bool_ else x.dtype)
    if axis is None:
        x, axis = F.reshape(x, (-1,)), 0
    _check(axis, x, name)
    return fn(x, axis)


def _check(axis: int, x: Any, name: str) -> None:
    if not -x.rank <= axis < x.rank:
        raise ShapeError(f"ops.{name}: axis {axis} is out of range for shape {known_shape(x.shape)}")


def _line(x: Any, axis: int | None, name: str) -> tuple[Any, int]:
    """Everything in a row where ``axis`` is None."""
    x = F.constant(x)
    if axis is None:
        return F.reshape(x, (-1,)), 0
    _check(axis, x, name)
    return x, axis


@operation(NUMPY)
def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Running sums along an axis (None: of all elements in a row)."""
    return _running(F.cumsum, "cumsum", x, axis, dtype)


@operation(NUMPY)
def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Running products along an axis (None: of all elements in a row)."""
    return _running(F.cumprod, "cumprod", x, axis, dtype)


@operation(NUMPY)
def sort(x: Any, axis: int | None = -1) -> Any:
    """The elements in ascending order, nan last."""
    x, axis = _line(x, axis, "sort")
    return F.sort(x, axis)


@operation(NUMPY)
def argsort(x: Any, axis: int | None = -1) -> Any:
    """int32 places of the elements in ascending order; equal ones in theirs."""
    x, axis = _line(x, axis, "argsort")
    return F.argsort(x, axis)


@operation(NUMPY)
def argpartition(x: Any, kth: int, axis: int | None = -1) -> Any:
    """int32 places of the elements such that the ``kth`` of them is where sorting puts it, lesser ones before it, others behind."""
    x, axis = _line(x, axis, "argpartition")
    if not -x.shape[axis] <= kth < x.shape[axis]:
        raise ArgumentError(f"ops.argpartition: there is no element {kth} along axis {axis} of shape {known_shape(x.shape)}")
    return F.argsort(x, axis)


@operation(MATH, name="TopK")
def top_k(x: Any, k: int, sorted: bool = True) -> Any:
    """(values, int32 places) of the k greatest elements of the last axis; of equal ones those in front."""
    x = F.constant(x)
    if not x.rank or not 0 <= k <= x.shape[-1]:
        raise ArgumentError(f"ops.top_k: the last axis of shape {known_shape(x.shape)} has no {k} elements")
    return F.top_k(x, k)


@operation(NUMPY)
def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return F.median(floating(x), axis, keepdims)


@operation(NUMPY, 2)
def quantile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Any:
    """The quantiles q (in [0, 1]) along axes; q's shape comes first."""
    return F.quantile(floating(x), q, axis, method, keepdims)


@operation(NUMPY, 2)
def percentile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Any:
    """The percentiles q (in [0, 100]) along axes; q's shape comes first."""
    return F.quantile(floating(x), F.div(floating(q), 100.0), axis, method, keepdims)


@operation(NUMPY)
def nanmedian(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The median of what is not nan; nan where all is."""
    return F.quantile(floating(x), 0.5, axis, "linear", keepdims, True)


@operation(NUMPY, 2)
def nanquantile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Any:
    """``quantile`` of what is not nan; nan where all is."""
    return F.quantile(floating(x), q, axis, method, keepdims, True)


@operation(NUMPY, 2)
def nanpercentile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Any:
    """``percentile`` of what is not nan; nan where all is."""
    return F.quantile(floating(x), F.div(floating(q), 100.0), axis, method, keepdims, True)


__all__ = [
    "argpartition", "argsort", "cumprod", "cumsum", "median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile", "sort",
    "top_k",
]
