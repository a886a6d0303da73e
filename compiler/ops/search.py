"""Where values belong in sorted ones, and counts by value: binary search, digitize, bincount, histogram, segments.

A search is unrolled: ceil(log2(n + 1)) steps of two selects and a gather for every value, no branches (L.-X. Shar's method,
Knuth, The Art of Computer Programming 3, 6.2.1). A size that is free is guarded between powers of 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dim import Dim, key
from ...runtime.dtype import as_dtype, bool_, float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import scalar_ops as s
from ..kernel import simplify as ix
from ..kernel.expr import Cast, Expr, Where, index, op
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample


@dataclass(frozen=True, eq=False)
class SearchSorted(Op):
    """int32 count of the elements of a sorted vector that are less than each value (``right``: not greater). nan is greater than
    every number and equals nan; of a vector that isn't sorted the counts mean nothing, but lie in [0, n]."""

    right: bool = False

    kind = "index"
    differentiable = False
    no_gradient = "its results are places"

    def infer(self, *types: TensorType) -> TensorType:
        ordered, values = types
        if ordered.rank != 1:
            raise ShapeError(f"SearchSorted needs a vector to search in, got {ordered}")
        if ordered.dtype is not values.dtype:
            raise DTypeError(f"SearchSorted needs values of the vector's type, got {ordered} and {values}")
        n = ordered.shape[0]
        if type(n) is not Dim and n >= 2**31:
            raise ShapeError(f"SearchSorted: places in {ordered} don't fit in 32 bits")
        return values.with_dtype(int32)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        ordered, values = (a.astype(np.float64) if as_dtype(a.dtype).is_float else a for a in arrays)
        return np.asarray(np.searchsorted(ordered, values, "right" if self.right else "left")).astype(np.int32)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        n = node.inputs[0].shape[0]
        if key(n) == 0:
            return Cast(index(0), int32)
        value = args[1](at)
        before = _not_after if self.right else _before

        def counted(e: Expr) -> Expr:
            return before(args[0]((e,)), value)

        step = 1
        while step * 2 <= n:
            step *= 2
        # The first probe leaves step places, in [0, step) or in (n - step, n]; each other one halves them.
        place: Expr = Where(counted(index(step - 1)), index(n - step + 1), index(0))
        while step > 1:
            step //= 2
            place = Where(counted(ix.add(place, index(step - 1))), ix.add(place, index(step)), place)
        return Cast(place, int32)

    def reads(self, node: Node, i: int) -> str:
        return ("many", "same")[i]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def ordered(n: int, dtype=np.float32) -> np.ndarray:
            return np.sort(rng.integers(0, 2 * n + 2, n)).astype(dtype)

        special = np.sort(np.array([np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0, 0.0, 2.5, -3.5], np.float32))
        hard = np.array([np.nan, np.inf, -np.inf, -0.0, 2.5, 2.4, 9, -4], np.float32)
        return [
            Sample(cls(), (ordered(13), rng.integers(-2, 30, (3, 5)).astype(np.float32)), tags=("odd",)),
            Sample(cls(True), (ordered(8), rng.integers(-2, 18, 7).astype(np.float32)), tags=("odd",)),
            Sample(cls(True), (ordered(7, np.int64), rng.integers(-2, 18, (4, 1, 3))), tags=("broadcast",)),
            Sample(cls(), (ordered(0), rng.standard_normal(3).astype(np.float32)), tags=("size0",)),
            Sample(cls(), (ordered(3), np.zeros((0, 2), np.float32)), tags=("size0",)),
            Sample(cls(), (ordered(1), np.array(1.0, np.float32)), tags=("size1",)),
            Sample(cls(True), (ordered(100, np.uint8), rng.integers(0, 255, 40).astype(np.uint8)), tags=("odd",)),
            Sample(cls(), (ordered(33, np.float64), rng.uniform(-2, 70, 9)), tags=("odd",)),
            Sample(cls(), (special, hard)),
            Sample(cls(True), (special, hard)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        v = TensorType((5,), float32)
        return [
            BadSample(cls(), (TensorType((5, 3), float32), v), ShapeError, r"a vector to search in, got float32\[5, 3\]"),
            BadSample(cls(), (v, v.with_dtype(int32)), DTypeError, "of the vector's type"),
        ]


def _before(a: Expr, b: Expr) -> Expr:
    """a < b, nan greatest."""
    less = op(s.lt, a, b)
    return op(s.or_, less, op(s.and_, op(s.isnan, b), op(s.not_, op(s.isnan, a)))) if a.dtype.is_float else less


def _not_after(a: Expr, b: Expr) -> Expr:
    """a <= b, nan greatest."""
    return op(s.or_, op(s.le, a, b), op(s.isnan, b)) if a.dtype.is_float else op(s.le, a, b)


def searchsorted(ordered, values, right: bool = False) -> Node:
    """int32 places where ``values`` (any shape) keep a sorted vector sorted: before equal elements, or behind (``right``)."""
    ordered, values = f.operands("searchsorted", ordered, values)
    if ordered.dtype is bool_:
        ordered, values = f.cast(ordered, int32), f.cast(values, int32)
    return f.node(SearchSorted(right), ordered, values)


def digitize(x, bins, right: bool = False) -> Node:
    """NumPy's digitize: int32 number of the bin of each element, by a vector of edges that rise or fall."""
    x, bins = f.operands("digitize", x, bins)
    if bins.rank != 1:
        raise ShapeError(f"digitize needs a vector of edges, got {bins.type}")
    n = bins.shape[0]
    if key(n) == 0:
        return f.zeros(x.shape, int32)
    rising = searchsorted(bins, x, not right)
    falling = f.sub(f.constant(n, int32), searchsorted(f.flip(bins, (0,)), x, not right))
    first, last = f.take(bins, 0), f.take(bins, n - 1)
    return f.where(f.ge(last, first), rising, falling)


def segment_reduce(x, segments, count: int, combine: str = "add") -> Node:
    """(count, ...): the slices of ``x`` along axis 0 joined by segment number, in order; numbers outside [0, count) don't count.

    ``combine``: "add", "mul", "max", "min"; a segment without slices has its neutral element (infinity of the maximum of floats).
    """
    x, segments = f.constant(x), f.constant(segments)
    if segments.rank != 1 or not segments.dtype.is_int or not x.rank or key(x.shape[0]) != key(segments.shape[0]):
        raise ShapeError(f"segment_reduce needs one integer for each slice along axis 0 of {x.type}, got {segments.type}")
    if combine not in ("add", "mul", "max", "min"):
        raise ArgumentError(f"segment_reduce: combine={combine!r} is none of add, mul, max, min")
    low, high = (-np.inf, np.inf) if x.dtype.is_float else (0, 1) if x.dtype is bool_ else (x.dtype.min, x.dtype.max)
    neutral = {"add": 0, "mul": 1, "max": low, "min": high}[combine]
    segments = segments if segments.dtype.itemsize >= 4 else f.cast(segments, int32)
    inside = f.logical_and(f.ge(segments, 0), f.lt(segments, count))
    place = f.where(inside, segments, f.constant(count, segments.dtype))  # what doesn't count lands behind the last
    empty = f.full((count + 1, *x.shape[1:]), neutral, x.dtype)
    return f.slice_(f.scatter(empty, place, x, 0, combine), (0,) * x.rank, (count, *x.shape[1:]))


def bincount(x, length: int, weights=None) -> Node:
    """(length,) how often each number in [0, length) stands in the integers ``x``; with ``weights`` (of x's shape) their sums.
    Others don't count."""
    x = f.constant(x)
    if not x.dtype.is_int:
        raise DTypeError(f"bincount needs integers, got {x.type}")
    w = f.full(x.shape, 1, int32) if weights is None else f.constant(weights)
    if key(w.shape) != key(x.shape):
        raise ShapeError(f"bincount needs a weight for each element of {x.type}, got {w.type}")
    return segment_reduce(f.reshape(w, (-1,)), f.reshape(x, (-1,)), length)


def histogram(x, bins=10, limits: tuple | None = None) -> tuple[Node, Node]:
    """(counts, edges) of NumPy's histogram, both of x's type (float32 of integers): ``bins`` equal parts of ``limits`` (None:
    from the least element to the greatest), or a vector of rising edges. The last bin holds its upper edge; nan is in none."""
    x = f.reshape(f.floating(x), (-1,))
    if isinstance(bins, (int, np.integer)):
        if bins < 1:
            raise ArgumentError(f"histogram: bins must be at least 1, got {bins}")
        edges = _edges(x, int(bins), limits)
    else:
        edges = f.cast(bins, x.dtype)
        if edges.rank != 1 or type(edges.shape[0]) is not Dim and edges.shape[0] < 2:
            raise ShapeError(f"histogram needs a vector of at least two edges, got {edges.type}")
    n = edges.shape[0]
    place = searchsorted(edges, x, True)
    place = f.where(f.eq(x, f.take(edges, n - 1)), f.constant(n - 1, int32), place)
    place = f.where(f.isnan(x), f.constant(n, int32), place)
    return f.cast(bincount(f.sub(place, 1), n - 1), x.dtype), edges


def _edges(x: Node, bins: int, limits: tuple | None) -> Node:
    if limits is not None:
        low, high = (f.cast(f.constant(v), x.dtype) for v in limits)
    else:
        if key(x.shape[0]) == 0:
            raise ShapeError("histogram of no elements needs limits")
        low, high = f.min_(x), f.max_(x)
    same = f.eq(low, high)
    low, high = f.where(same, f.sub(low, 0.5), low), f.where(same, f.add(high, 0.5), high)
    share = f.mul(f.cast(f.iota((bins + 1,)), x.dtype), 1 / bins)
    edges = f.add(f.mul(low, f.sub(1.0, share)), f.mul(high, share))  # exact at both ends
    return f.where(f.eq(f.iota((bins + 1,)), bins), high, edges)
