"""Sorting: where the elements of an axis stand in order (a routine). Sorted values are a gather at those places, which also
gives them their derivative; top-k, median and quantiles follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dim import Dim, key, size, text
from ...runtime.dtype import as_dtype, float32, float64, int32
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.ir import Buffer
from ..kernel.routine import Order
from . import functional as f
from .base import BadSample, Op, Sample, is_one
from .cumulative import around, has_axis


@dataclass(frozen=True, eq=False)
class Argsort(Op):
    """int32 places of the first ``k`` elements in order along ``axis`` (None: of all). Of equal elements the earlier one is first, in
    either direction; nan is greater than every number; -0 equals 0.
    """

    axis: int
    descending: bool = False
    k: int | None = None

    kind = "routine"
    differentiable = False
    no_gradient = "its results are places"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        has_axis(self, x, self.axis)
        n = x.shape[self.axis]
        if not _fits(n):
            raise ShapeError(f"Argsort: places along axis {self.axis} of {x} don't fit in 32 bits")
        k = n if self.k is None else self.k
        if self.k is not None and not 0 <= k <= n:
            raise ArgumentError(f"Argsort: k must be between 0 and the {text(n)} elements of axis {self.axis}, is {text(k)}")
        return TensorType((*x.shape[: self.axis], k, *x.shape[self.axis + 1:]), int32)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        (x,) = arrays
        if as_dtype(x.dtype).is_float:
            x = x.astype(np.float64)
        # Ranks of distinct values (nans are one), so that a stable sort of -rank is the stable descending one.
        _, rank = np.unique(x, return_inverse=True)
        rank = rank.reshape(x.shape)
        order = np.argsort(-rank if self.descending else rank, axis=self.axis, kind="stable")
        return np.take(order, range(order.shape[self.axis] if self.k is None else int(self.k)), self.axis).astype(np.int32)

    def routine(self, node: Node) -> Order:
        (x,) = node.inputs
        outer, n, inner = around(x.shape, self.axis)
        k = node.shape[self.axis]
        buffers = (Buffer("in0", (outer, n, inner), x.dtype), Buffer("out0", (outer, k, inner), int32))
        return Order("argsort" if self.k is None else "top_k", buffers, 1, (outer, n, inner, k), self.descending, is_one(inner))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        special = rng.standard_normal((3, 120)).astype(np.float32)
        special.reshape(-1)[::7], special.reshape(-1)[::11], special.reshape(-1)[3::11] = np.nan, 0.0, -0.0
        special.reshape(-1)[5::13], special.reshape(-1)[6::13] = np.inf, -np.inf
        return [
            Sample(cls(1), (rng.standard_normal((3, 5)).astype(np.float32),), tags=("odd",)),
            Sample(cls(0, True), (rng.standard_normal((7, 3)).astype(np.float32),), tags=("odd",)),
            Sample(cls(1), (np.zeros((0, 3), np.float32),), tags=("size0",)),
            Sample(cls(0, True), (np.zeros((0, 3), np.float32),), tags=("size0",)),
            Sample(cls(0), (np.ones(1, np.int64),), tags=("size1",)),
            Sample(cls(1, True, 2), (rng.integers(-2, 3, (2, 130, 3)),), tags=("broadcast",)),
            Sample(cls(1), (special,)),
            Sample(cls(1, True, 4), (special,)),
            Sample(cls(1, True, 40), (special.astype(np.float16),)),
            Sample(cls(0), (rng.integers(0, 200, 300).astype(np.uint8),)),
            Sample(cls(0, True), (rng.integers(0, 2, 5).astype(np.bool_),)),
            Sample(cls(0, False, 0), (rng.standard_normal(4),)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        return [BadSample(cls(2), (x,), ShapeError, "no axis 2"), BadSample(cls(1, True, 4), (x,), ArgumentError, "the 3 elements of axis 1, is 4")]


def _fits(n: int) -> bool:
    return type(n) is Dim or n < 2**31


def argsort(x, axis: int = -1, descending: bool = False, k: int | None = None) -> Node:
    """int32 places of the elements along ``axis`` in order (of the first ``k``), stable in either direction, nan greatest."""
    x = f.constant(x)
    axis = f.one_axis("argsort", axis, x.rank)
    if k is not None and key(k) == key(x.shape[axis]):
        k = None
    return f.node(Argsort(axis, descending, k), x)


def sort(x, axis: int = -1, descending: bool = False) -> Node:
    """The elements along ``axis`` in order; nan greatest."""
    x = f.constant(x)
    return f.take_along_axis(x, argsort(x, axis, descending), axis)


def top_k(x, k: int, axis: int = -1, largest: bool = True) -> tuple[Node, Node]:
    """(values, int32 places) of the ``k`` greatest (least) elements along ``axis``, in order; of equal ones those with the lower index."""
    x = f.constant(x)
    places = argsort(x, axis, largest, k)
    return f.take_along_axis(x, places, axis), places


METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(x, q, axis: int | Sequence[int] | None = None, method: str = "linear", keepdims: bool = False, ignore_nan: bool = False) -> Node:
    """The quantiles ``q`` (in [0, 1], a number or an array) along axes (None: all); the result's shape has q's in front. nan
    where the axis holds one (``ignore_nan``: where it holds nothing else). ``method``: how to choose between neighbours (NumPy's names: linear,
    lower, higher, midpoint, nearest)."""
    if method not in METHODS:
        raise ArgumentError(f"quantile: method must be one of {', '.join(METHODS)}, is {method!r}")
    x = f.floating(x)
    axes = f.axes_tuple("quantile", axis, x.rank)
    kept = [i for i in range(x.rank) if i not in axes]
    flat = f.reshape(f.transpose(x, [*kept, *axes]), [*[x.shape[i] for i in kept], size([x.shape[i] for i in axes])])
    n = flat.shape[-1]
    if type(n) is not Dim and n == 0:
        raise ShapeError(f"quantile: axes {axes} of {x.type} hold no elements")
    wide = float64 if x.dtype is float64 else float32
    q = f.cast(f.constant(q), wide)
    ordered = sort(flat, -1)
    last = flat.rank - 1
    # sorted last, nans are the greatest elements
    nans = f.sum_(f.cast(f.isnan(flat), int32), last, True)
    count = f.sub(f.constant(n, int32), nans) if ignore_nan else f.full(nans.shape, n, int32)
    at = f.mul(f.reshape(q, (-1,)), f.cast(f.maximum(f.sub(count, 1), 0), wide))  # [kept..., quantiles]
    low, high = f.floor(at), f.ceil(at)
    share = f.sub(at, low)
    if method == "midpoint":
        share = f.where(f.gt(share, 0.0), 0.5, f.zeros_like(share))
    elif method == "nearest":
        low = high = f.round_(at)
    elif method == "lower":
        high = low
    elif method == "higher":
        low = high
    out = f.take_along_axis(ordered, f.cast(low, int32), last)
    if high is not low:
        above = f.take_along_axis(ordered, f.cast(high, int32), last)
        out = f.add(out, f.mul(f.sub(above, out), f.cast(share, x.dtype)))
        out = f.where(f.eq(low, high), f.take_along_axis(ordered, f.cast(low, int32), last), out)  # inf - inf
    nothing = f.eq(count, 0) if ignore_nan else f.gt(nans, 0)
    out = f.where(nothing, float("nan"), out)
    out = f.transpose(out, [last, *range(last)])
    return f.reshape(out, (*q.shape, *([1 if i in axes else m for i, m in enumerate(x.shape)] if keepdims else out.shape[1:])))


def median(x, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """The median along axes (None: all); the mean of the two middle elements where their number is even."""
    return quantile(x, 0.5, axis, "linear", keepdims)


def permutation(key_, step, n: int, stream: int = 0) -> Node:
    """A random order of [0, n) as int32: the order of n random 64-bit numbers (equal ones, of probability n^2 / 2^65, keep theirs)."""
    high, low = (f.cast(f.random_bits(key_, step, (n,), stream, word), as_dtype("uint64")) for word in (0, 1))
    return argsort(f.bitwise_or(f.shift_left(high, 32), low), 0)


def shuffle(key_, step, x, axis: int = 0, stream: int = 0) -> Node:
    """``x`` with the slices along ``axis`` in a random order."""
    x = f.constant(x)
    axis = f.one_axis("shuffle", axis, x.rank)
    return f.take(x, permutation(key_, step, x.shape[axis], stream), axis)
