"""Reductions: the fold of a monoid over axes, which leave the shape (``functional`` puts back axes of size 1 on request)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...runtime.dim import size
from ...runtime.dtype import DType, as_dtype, bool_, float32, int32, int64
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import monoid as m
from ..kernel import simplify as ix
from ..kernel.expr import Cast, Expr, Fold
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample

Cotangents = tuple[Node | None, ...]
_CASES = [
    ((3, 5), (1,), "odd"),
    ((3, 5), (0,), "odd"),
    ((0, 3), (0,), "size0"),
    ((3, 0), (0,), "size0"),
    ((1, 4), (0,), "size1"),
    ((), (), "size1"),
    ((2, 1, 7), (0, 1, 2), "broadcast"),
    ((2, 3, 5, 4), (0, 2), "odd"),
    ((3, 5), (), "odd"),
]


@dataclass(frozen=True, eq=False)
class Reduction(Op):
    """``axes`` are sorted, unique and not negative."""

    axes: tuple[int, ...]

    monoid: ClassVar[m.Monoid]
    takes_bool: ClassVar[bool] = False

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if list(self.axes) != sorted(set(self.axes)) or any(not 0 <= a < x.rank for a in self.axes):
            raise ShapeError(f"{self.name}: {self.axes} are not sorted, distinct axes of {x}")
        if x.dtype is bool_ and not self.takes_bool:
            raise DTypeError(f"{self.name} needs numbers, got {x}")
        return x.with_shape(tuple([n for i, n in enumerate(x.shape) if i not in self.axes]))

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        shape = node.inputs[0].shape
        over = ctx.axes([shape[a] for a in self.axes])
        return Fold(self.monoid, over, (args[0](self._position(at, over)),)) if over else args[0](at)

    def _position(self, at: tuple[Expr, ...], over: tuple[Expr, ...]) -> tuple[Expr, ...]:
        kept, reduced = iter(at), iter(over)
        return tuple([next(reduced) if i in self.axes else next(kept) for i in range(len(at) + len(over))])

    def _spread(self, x: Node, like: Node) -> Node:
        """``x`` (a result) repeated along the reduced axes."""
        return f.broadcast_to(f.expand_dims(x, self.axes), like.shape)

    def flops(self, node: Node) -> int:
        return node.inputs[0].type.size if node.dtype.is_float else 0

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        # The extreme of nothing is infinite: no finite differences there.
        out = [
            Sample(
                cls(axes),
                (np.asarray(rng.uniform(-2, 2, shape)).astype(np.float32),),
                smooth=0 not in [shape[a] for a in axes],
                tags=(tag,),
            )
            for shape, axes, tag in _CASES
        ]
        out.append(Sample(cls((0,)), (rng.integers(-5, 6, (9, 3)),), tags=("odd",)))
        out.append(Sample(cls((1,)), (rng.standard_normal((3, 33)).astype(as_dtype("bfloat16").np),), tags=("odd",)))
        if cls.takes_bool:
            out.append(Sample(cls((1,)), (rng.integers(0, 3, (7, 3)) > 0,), tags=("odd",)))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        out = [
            BadSample(cls((2,)), (x,), ShapeError, r"\(2,\) are not sorted, distinct axes"),
            BadSample(cls((1, 0)), (x,), ShapeError, r"\(1, 0\) are not"),
            BadSample(cls((0, 0)), (x,), ShapeError, "distinct"),
        ]
        return (
            out if cls.takes_bool else [*out, BadSample(cls((0,)), (x.with_dtype(bool_),), DTypeError, "needs numbers, got bool")]
        )


class Sum(Reduction):
    """16-bit floats accumulate in float32 (every reduction does). Integers wrap. The sum of nothing is 0."""

    kind = "reduction"
    monoid = m.SUM

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        wide = np.float64 if as_dtype(x.dtype).is_float else x.dtype
        return np.asarray(x.astype(wide).sum(self.axes, dtype=wide)).astype(x.dtype)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (self._spread(ct, node.inputs[0]),)


class Prod(Reduction):
    """The product of nothing is 1."""

    kind = "reduction"
    monoid = m.PROD

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        wide = np.float64 if as_dtype(x.dtype).is_float else x.dtype
        return np.asarray(x.astype(wide).prod(self.axes, dtype=wide)).astype(x.dtype)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        """Each element's cofactor is the product of the others, folded anew: exact where elements are 0, at any order of
        derivative.
        """
        x = node.inputs[0]
        kept = tuple([i for i in range(x.rank) if i not in self.axes])
        rows = f.transpose(x, kept + self.axes)
        n = size([x.shape[a] for a in self.axes])
        lead = tuple([x.shape[i] for i in kept])
        rows = f.reshape(rows, (*lead, n))
        rank = len(lead)
        table = f.broadcast_to(f.expand_dims(rows, (rank,)), (*lead, n, n))
        same = f.eq(f.iota((n, n), 0, int64), f.iota((n, n), 1, int64))
        others = f.prod(f.where(same, 1, table), (rank + 1,))
        others = f.transpose(f.reshape(others, (*lead, *[x.shape[a] for a in self.axes])), f.inverse(kept + self.axes))
        return (f.mul(self._spread(ct, x), others),)


class _Extreme(Reduction):
    takes_bool = True
    reduce: ClassVar

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, least = arrays[0], self.monoid.init  # noqa: F841
        dtype = as_dtype(x.dtype)
        start = dtype.np.type(dtype.min if self.reduce is np.maximum else dtype.max)
        out = x.astype(np.float32) if dtype.is_float and dtype.itemsize == 2 else x
        for axis in reversed(self.axes):
            out = self.reduce.reduce(out, axis=axis, initial=start)
        return np.asarray(out).astype(x.dtype, copy=False)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        """Equal extremes share the gradient evenly (as in JAX and TensorFlow)."""
        x = node.inputs[0]
        hit = f.cast(f.eq(x, self._spread(node, x)), x.dtype)
        return (f.mul(hit, self._spread(f.div(ct, f.sum_(hit, self.axes)), x)),)


class Max(_Extreme):
    """nan where an element is nan; of nothing -inf (integers: the least value; bool: False). On bool it is "any"."""

    kind = "reduction"
    monoid = m.MAX
    reduce = np.maximum


class Min(_Extreme):
    """nan where an element is nan; of nothing inf (integers: the greatest value; bool: True). On bool it is "all"."""

    kind = "reduction"
    monoid = m.MIN
    reduce = np.minimum


@dataclass(frozen=True, eq=False)
class _Arg(Op):
    """The position along ``axis`` of the extreme, the first of equal ones; nan beats every number."""

    axis: int
    dtype: DType = int32

    differentiable = False
    no_gradient = "a position is not a smooth function of the values"
    monoid: ClassVar[m.Monoid]

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if not 0 <= self.axis < x.rank:
            raise ShapeError(f"{self.name}: there is no axis {self.axis} in {x}")
        if not self.dtype.is_int:
            raise DTypeError(f"{self.name} gives integers, not {self.dtype}")
        if x.shape[self.axis] == 0:
            raise ShapeError(f"{self.name}: axis {self.axis} of {x} has no elements")
        return TensorType(x.shape[: self.axis] + x.shape[self.axis + 1 :], self.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        if as_dtype(x.dtype).is_float:
            x = x.astype(np.float64)
        return np.asarray((np.argmax if self.monoid is m.ARGMAX else np.argmin)(x, self.axis)).astype(self.dtype.np)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        (r,) = ctx.axes([node.inputs[0].shape[self.axis]])
        x = args[0]((*at[: self.axis], r, *at[self.axis :]))
        position = Fold(self.monoid, (r,), (x, ix.add(r, ix.index(0))), item=1)
        return position if self.dtype is int64 else Cast(position, self.dtype)

    def flops(self, node: Node) -> int:
        return node.inputs[0].type.size if node.inputs[0].dtype.is_float else 0

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        ties = rng.integers(-3, 4, (5, 9)).astype(np.float32)
        special = ties.copy()
        special[0], special[1, 3], special[2, 5:], special[3, 2] = -np.inf, np.nan, np.inf, -np.inf
        special[4] = np.inf
        return [
            Sample(cls(1), (ties,), tags=("odd",)),
            Sample(cls(0, int64), (ties,), tags=("odd",)),
            Sample(cls(1), (special,)),
            Sample(cls(0), (np.zeros((3, 0), np.float32),), tags=("size0",)),
            Sample(cls(0), (np.array([2.0], np.float32),), tags=("size1",)),
            Sample(cls(1), (rng.standard_normal((2, 1, 7)).astype(np.float16),), tags=("broadcast",)),
            Sample(cls(1), (rng.integers(-9, 9, (2, 5, 3)),)),
            Sample(cls(0), (rng.integers(0, 2, (4, 3)) > 0,)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 0), float32)
        return [
            BadSample(cls(2), (x,), ShapeError, "no axis 2"),
            BadSample(cls(1), (x,), ShapeError, "axis 1 of float32.2, 0. has no elements"),
            BadSample(cls(0, float32), (x,), DTypeError, "gives integers, not float32"),
        ]


class ArgMax(_Arg):
    kind = "reduction"
    monoid = m.ARGMAX


class ArgMin(_Arg):
    kind = "reduction"
    monoid = m.ARGMIN


def _fold(op: type, name: str, x: Node, axes, keepdims: bool) -> Node:
    at = tuple(sorted(f.axes_tuple(name, axes, x.rank)))
    out = f.node(op(at), x) if at else x
    return f.reshape(out, [1 if i in at else n for i, n in enumerate(x.shape)]) if keepdims else out


def sum_(x, axes=None, keepdims: bool = False) -> Node:
    """The sum over ``axes`` (None: all); bool counts as int32."""
    x = f.constant(x)
    return _fold(Sum, "sum", f.cast(x, int32) if x.dtype is bool_ else x, axes, keepdims)


def prod(x, axes=None, keepdims: bool = False) -> Node:
    x = f.constant(x)
    return _fold(Prod, "prod", f.cast(x, int32) if x.dtype is bool_ else x, axes, keepdims)


def max_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(Max, "max", f.constant(x), axes, keepdims)


def min_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(Min, "min", f.constant(x), axes, keepdims)


def any_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(Max, "any", f.cast(x, bool_), axes, keepdims)


def all_(x, axes=None, keepdims: bool = False) -> Node:
    return _fold(Min, "all", f.cast(x, bool_), axes, keepdims)


def mean(x, axes=None, keepdims: bool = False) -> Node:
    """The mean over ``axes``; integers become float32."""
    x = f.constant(x)
    x = x if x.dtype.is_float else f.cast(x, float32)
    at = f.axes_tuple("mean", axes, x.rank)
    count = size([x.shape[a] for a in at])
    if x.dtype.itemsize == 2:  # the sum, and the count, may be more than 16 bits hold
        return f.cast(f.div(sum_(f.cast(x, float32), at, keepdims), count), x.dtype)
    return f.div(sum_(x, at, keepdims), count)


def var(x, axes=None, keepdims: bool = False) -> Node:
    """The mean square distance from the mean (two passes: exact where the mean is large)."""
    x = f.constant(x)
    x = x if x.dtype.is_float else f.cast(x, float32)
    wide = f.cast(x, float32) if x.dtype.itemsize == 2 else x
    return f.cast(mean(f.square(f.sub(wide, mean(wide, axes, True))), axes, keepdims), x.dtype)


def _arg(op: type, name: str, x, axes, keepdims: bool, dtype) -> Node:
    x = f.constant(x)
    shape = x.shape
    if axes is None:
        x, axis, kept = f.reshape(x, (x.type.size,)), 0, [1] * len(shape)
    else:
        at = f.axes_tuple(name, axes, x.rank)
        if len(at) != 1:
            raise ArgumentError(f"{name} works along one axis or over all, got axes {at}")
        axis = at[0]
        kept = [1 if i == axis else n for i, n in enumerate(shape)]
    out = f.node(op(axis, as_dtype(dtype)), x)
    return f.reshape(out, kept) if keepdims else out


def argmax(x, axes=None, keepdims: bool = False, dtype=int32) -> Node:
    """The position of the greatest element along an axis (None: in the flattened tensor), the first of equal ones."""
    return _arg(ArgMax, "argmax", x, axes, keepdims, dtype)


def argmin(x, axes=None, keepdims: bool = False, dtype=int32) -> Node:
    return _arg(ArgMin, "argmin", x, axes, keepdims, dtype)
