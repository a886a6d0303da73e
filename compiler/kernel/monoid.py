"""Monoids: how a reduction starts, takes in an element, and joins partial results.

A monoid's state is a tuple of scalars. ``init`` gives the neutral state, ``lift`` turns one element (a tuple of
expressions) into a state, ``combine`` joins two states; a masked-off element counts as the neutral state. ``combine`` is
associative up to rounding, and the order in which a schedule joins partial states depends on extents alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.dtype import DType, float32, float64, int64
from . import scalar_ops as s
from .expr import Const, Expr, Where, op


@dataclass(frozen=True)
class Monoid:
    """Base. ``arity`` is the number of operand expressions, ``width`` the number of scalars in the state."""

    name = ""
    arity = 1
    width = 1

    def dtypes(self, exprs: tuple[Expr, ...]) -> tuple[DType, ...]:
        """Types of the finished result."""
        return (exprs[0].dtype,)

    def state_dtypes(self, exprs: tuple[Expr, ...]) -> tuple[DType, ...]:
        """Types of the running state: 16-bit floats accumulate in float32."""
        return tuple(float32 if d.is_float and d.itemsize == 2 else d for d in self.dtypes(exprs))

    def init(self, exprs: tuple[Expr, ...]) -> tuple[Const, ...]:
        raise NotImplementedError

    def lift(self, exprs: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return exprs

    def combine(self, a: tuple[Expr, ...], b: tuple[Expr, ...]) -> tuple[Expr, ...]:
        raise NotImplementedError

    def reduce(self, arrays: list[np.ndarray], axes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """The NumPy meaning: reduces the given axes away; sizes may be 0."""
        raise NotImplementedError


def _wide(a: np.ndarray) -> np.ndarray:
    """16-bit floats accumulate in float32 and float32 in float64, so that the oracle is better than what it judges."""
    if a.dtype == np.float64 or a.dtype.kind in "iub":
        return a
    return a.astype(np.float64)


@dataclass(frozen=True)
class Sum(Monoid):
    name = "sum"

    def init(self, exprs):
        return (Const(0, self.state_dtypes(exprs)[0]),)

    def combine(self, a, b):
        return (op(s.add, a[0], b[0]),)

    def reduce(self, arrays, axes):
        wide = _wide(arrays[0])
        return (np.sum(wide, axis=axes, dtype=wide.dtype).astype(arrays[0].dtype),)


@dataclass(frozen=True)
class Prod(Monoid):
    name = "prod"

    def init(self, exprs):
        return (Const(1, self.state_dtypes(exprs)[0]),)

    def combine(self, a, b):
        return (op(s.mul, a[0], b[0]),)

    def reduce(self, arrays, axes):
        wide = _wide(arrays[0])
        return (np.prod(wide, axis=axes, dtype=wide.dtype).astype(arrays[0].dtype),)


@dataclass(frozen=True)
class Max(Monoid):
    """max; on bool it is "any". Propagates nan."""

    name = "max"
    fn = s.maximum

    def init(self, exprs):
        return (Const(exprs[0].dtype.min, self.state_dtypes(exprs)[0]),)

    def combine(self, a, b):
        if a[0].dtype.kind == "b":
            return (op(s.or_, a[0], b[0]),)
        return (op(s.maximum, a[0], b[0]),)

    def reduce(self, arrays, axes):
        a = arrays[0]
        return (np.max(a, axis=axes, initial=a.dtype.type(-np.inf) if a.dtype.kind not in "iub" else
                       (False if a.dtype.kind == "b" else np.iinfo(a.dtype).min)),)


@dataclass(frozen=True)
class Min(Monoid):
    """min; on bool it is "all". Propagates nan."""

    name = "min"

    def init(self, exprs):
        return (Const(exprs[0].dtype.max, self.state_dtypes(exprs)[0]),)

    def combine(self, a, b):
        if a[0].dtype.kind == "b":
            return (op(s.and_, a[0], b[0]),)
        return (op(s.minimum, a[0], b[0]),)

    def reduce(self, arrays, axes):
        a = arrays[0]
        return (np.min(a, axis=axes, initial=a.dtype.type(np.inf) if a.dtype.kind not in "iub" else
                       (True if a.dtype.kind == "b" else np.iinfo(a.dtype).max)),)


@dataclass(frozen=True)
class Last(Monoid):
    """The later one: what a scatter that overwrites leaves where several updates meet. For stores only: it has no neutral state."""

    name = "last"

    def combine(self, a, b):
        return b


@dataclass(frozen=True)
class _Arg(Monoid):
    """Value and position: of equal values the least position wins; nan beats every number (as in NumPy).

    Operands: the value, and its position (int64, an expression over the reduced axes). State and result: (value, position).
    """

    arity = 2
    width = 2

    def dtypes(self, exprs):
        return (exprs[0].dtype, int64)

    def state_dtypes(self, exprs):
        return (exprs[0].dtype, int64)

    def _better(self, a: Expr, b: Expr) -> Expr:
        raise NotImplementedError

    def combine(self, a, b):
        better = self._better(b[0], a[0])
        same = op(s.eq, a[0], b[0])
        if a[0].dtype.is_float:
            a_nan, b_nan = op(s.isnan, a[0]), op(s.isnan, b[0])
            better = op(s.and_, op(s.or_, better, b_nan), op(s.not_, a_nan))
            same = op(s.or_, same, op(s.and_, a_nan, b_nan))
        take = op(s.or_, better, op(s.and_, same, op(s.lt, b[1], a[1])))
        return (Where(take, b[0], a[0]), Where(take, b[1], a[1]))

    def reduce(self, arrays, axes):
        value, position = np.broadcast_arrays(arrays[0], arrays[1])
        keep = [i for i in range(value.ndim) if i not in axes]
        flat = [np.transpose(x, keep + list(axes)).reshape([x.shape[i] for i in keep] + [-1]) for x in (value, position)]
        order = np.argsort(flat[1], axis=-1, kind="stable")  # the least position first, whatever the axes' order
        v, p = (np.take_along_axis(x, order, -1) for x in flat)
        at = self._argfn(v)[..., None]
        return np.take_along_axis(v, at, -1)[..., 0], np.take_along_axis(p, at, -1)[..., 0]


@dataclass(frozen=True)
class ArgMax(_Arg):
    name = "argmax"

    def init(self, exprs):
        return (Const(exprs[0].dtype.min, exprs[0].dtype), Const(int64.max, int64))

    def _better(self, a, b):
        return op(s.and_, a, op(s.not_, b)) if a.dtype.kind == "b" else op(s.gt, a, b)

    @staticmethod
    def _argfn(v):
        return np.argmax(v, -1)


@dataclass(frozen=True)
class ArgMin(_Arg):
    name = "argmin"

    def init(self, exprs):
        return (Const(exprs[0].dtype.max, exprs[0].dtype), Const(int64.max, int64))

    def _better(self, a, b):
        return op(s.and_, b, op(s.not_, a)) if a.dtype.kind == "b" else op(s.lt, a, b)

    @staticmethod
    def _argfn(v):
        return np.argmin(v, -1)


@dataclass(frozen=True)
class Dot(Monoid):
    """Sum of products of two operands: a contraction. ``acc`` is the accumulator's type (float32 for 16-bit floats), ``precision`` the op's."""

    name = "dot"
    arity = 2
    acc: DType = float32
    precision: str = "highest"

    def dtypes(self, exprs):
        return (self.acc,)

    def state_dtypes(self, exprs):
        return (self.acc,)

    def init(self, exprs):
        return (Const(0, self.acc),)

    def lift(self, exprs):
        from .expr import Cast
        a, b = (e if e.dtype is self.acc else Cast(e, self.acc) for e in exprs)
        return (op(s.mul, a, b),)

    def combine(self, a, b):
        return (op(s.add, a[0], b[0]),)

    def reduce(self, arrays, axes):
        wide = np.float64 if self.acc.is_float else self.acc.np
        product = arrays[0].astype(wide) * arrays[1].astype(wide)
        return (np.sum(product, axis=axes, dtype=wide).astype(self.acc.np),)


SUM, PROD, MAX, MIN, LAST, ARGMAX, ARGMIN = Sum(), Prod(), Max(), Min(), Last(), ArgMax(), ArgMin()


def dot(dtype: DType, precision: str = "highest") -> Dot:
    """The contraction monoid for operands of ``dtype``: accumulates 16-bit floats in float32, small integers in int32."""
    if dtype.is_float:
        return Dot(float64 if dtype is float64 else float32, precision)
    from ...runtime.dtype import int32
    return Dot(int32 if dtype.itemsize <= 2 else dtype, precision)
