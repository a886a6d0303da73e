"""Pooling windows over the spatial axes of (N, *spatial, C), and their derivatives in gather form (every result element sums what
reached it, so that no two threads write one place).

Window o reads position o*stride - low + k*dilation at its element k; elements outside are no part of a maximum and 0 in a
sum. (Maxima: ``maxpool``.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np

from ...runtime import dim
from ...runtime.dtype import as_dtype, bool_, float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import monoid as m
from ..kernel import simplify as ix
from ..kernel.expr import TRUE, Const, Expr, Fold, Where
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text
from .geometry import Pairs, at_element, check_window, padded, reached, reaching, window_axes, window_sizes

Cotangents = tuple[Node | None, ...]
# image, window, strides, padding, dilation, tag
_CASES = [
    ((2, 7, 9, 3), (2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1), "odd"),
    ((1, 6, 5, 2), (3, 3), (1, 2), ((1, 1), (1, 0)), (1, 1), "odd"),
    ((2, 11, 3), (3,), (2,), ((1, 2),), (2,), "odd"),
    ((1, 4, 5, 3, 2), (2, 2, 3), (2, 1, 3), ((0, 1), (0, 0), (1, 1)), (1, 2, 1), "broadcast"),
    ((0, 4, 4, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), "size0"),
    ((1, 1, 1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), "size1"),
    ((1, 5, 3), (2,), (3,), ((3, 0),), (1,), "odd"),
    ((1, 9, 2), (2,), (2,), ((-1, -2),), (1,), "odd"),
]


@dataclass(frozen=True, eq=False)
class PoolingWindow(Op):
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]

    kind = ""

    @property
    def _settings(self) -> tuple:
        return self.window, self.strides, self.padding, self.dilation

    def _check(self, x: TensorType, *, numbers: bool = True) -> None:
        if not 3 <= x.rank <= 5:
            raise ShapeError(f"{self.name} needs (N, 1 to 3 spatial axes, C), got {x}")
        if numbers and x.dtype is bool_:
            raise DTypeError(f"{self.name} needs numbers, got {x}")
        check_window(self, x.rank - 2, self.strides, self.padding, self.dilation, self.window)

    def _counts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return window_sizes(self.name, sizes, self.window, self.strides, self.padding, self.dilation)

    def _elements(self):
        """The window's elements in row-major order."""
        return enumerate(product(*map(range, self.window)))

    def _forward(self, at: tuple[Expr, ...], ks: Sequence[Expr], sizes: Sequence[int]) -> tuple[tuple[Expr, ...], Expr]:
        """Where windows ``at`` read at element ``ks``, and the condition that this lies inside."""
        where, inside = [], TRUE
        for e, k, n, st, (lo, _), d in zip(at[1:-1], ks, sizes, self.strides, self.padding, self.dilation):
            p = reached(e, k, st, lo, d)
            where.append(p)
            inside = ix.both(inside, ix.within(p, 0, n))
        return (at[0], *where, at[-1]), inside

    def _backward(self, at: tuple[Expr, ...], ks: Sequence[Expr], counts: Sequence[int]) -> tuple[tuple[Expr, ...], Expr]:
        """The windows that read position ``at`` at element ``ks``, and the condition that there is one."""
        where, inside = [], TRUE
        for e, k, n, st, (lo, _), d in zip(at[1:-1], ks, counts, self.strides, self.padding, self.dilation):
            o, cond = reaching(e, k, st, lo, d, n)
            where.append(o)
            inside = ix.both(inside, cond)
        return (at[0], *where, at[-1]), inside

    def _number(self, ks: Sequence[Expr]) -> Expr:
        return ix.ravel(ks, self.window)

    def flops(self, node: Node) -> int:
        return node.type.size * dim.size(self.window)

    @classmethod
    def _cases(cls, rng: np.random.Generator):
        """Settings, an image, its number of windows, tag."""
        for shape, *spec, tag in _CASES:
            probe = SumPool(*spec)
            image = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) / 8
            yield tuple(spec), image, (shape[0], *probe._counts(shape[1:-1]), shape[-1]), tag

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3, 5, 2), float32)
        spec = ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        return [
            BadSample(cls((4, 2), *spec[1:]), (x,), ShapeError, "window of 4 .* larger than spatial axis 0 of size 3"),
            BadSample(cls(*spec), (x.with_shape((2, 3)),), ShapeError, "1 to 3 spatial axes"),
            BadSample(cls((2,), *spec[1:]), (x,), ShapeError, "window .2,. are not for 2"),
            BadSample(cls(spec[0], (0, 1), *spec[2:]), (x,), ArgumentError, "must be positive"),
            BadSample(cls(*spec), (x.with_dtype(bool_),), DTypeError, "needs numbers"),
        ]


def guarded(inside: Expr, x: Expr, other) -> Expr:
    return x if inside is TRUE else Where(inside, x, Const(other, x.dtype))


@dataclass(frozen=True, eq=False)
class Pool(PoolingWindow):
    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        self._check(x)
        return x.with_shape((x.shape[0], *self._counts(x.shape[1:-1]), x.shape[-1]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        # A window with nothing inside has an infinite maximum: no finite differences there.
        return [
            Sample(cls(*spec), (x,), smooth=bool(np.isfinite(cls(*spec).eval(x)).all()), tags=(tag,))
            for spec, x, _, tag in cls._cases(rng)
        ]


@dataclass(frozen=True, eq=False)
class SumPool(Pool):
    """The sum of each window."""

    kind = "window"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        dtype = x.dtype
        x = x.astype(np.float64) if as_dtype(dtype).is_float else x
        counts, wide = self._counts(x.shape[1:-1]), padded(x, self.padding)
        out = np.zeros((x.shape[0], *map(int, counts), x.shape[-1]), x.dtype)
        for _, k in self._elements():
            out = out + wide[at_element(k, counts, self.strides, self.dilation)]
        return out.astype(dtype)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.node(SumPoolGrad(*self._settings, sizes=node.inputs[0].shape[1:-1]), ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, node.inputs[0].shape[1:-1])
        x = guarded(inside, args[0](where), 0)
        return Fold(m.SUM, over, (x,)) if over else x


@dataclass(frozen=True, eq=False)
class PoolSpread(PoolingWindow):
    """From values of windows back to the positions they read, spatial axes of ``sizes``."""

    sizes: tuple[int, ...] = ()

    def infer(self, *types: TensorType) -> TensorType:
        u = types[0]
        self._check(u)
        if len(self.sizes) != u.rank - 2:
            raise ShapeError(f"{self.name}: sizes {shape_text(self.sizes)} are not for {u.rank - 2} spatial axes")
        if u.shape[1:-1] != self._counts(self.sizes):
            raise ShapeError(
                f"{self.name}: {shape_text(self.sizes)} has {shape_text(self._counts(self.sizes))}"
                f" windows, not {shape_text(u.shape[1:-1])}"
            )
        return u.with_shape((u.shape[0], *self.sizes, u.shape[-1]))

    def _canvas(self, u: np.ndarray, parts) -> np.ndarray:
        """Adds ``parts`` (one array for each element of the window) where the windows read."""
        high = [int(n + max(lo, 0) + max(hi, 0)) for n, (lo, hi) in zip(self.sizes, self.padding)]
        canvas = np.zeros((u.shape[0], *high, u.shape[-1]), np.float64 if as_dtype(u.dtype).is_float else u.dtype)
        seen = canvas[
            (slice(None), *[slice(max(-lo, 0), canvas.shape[i + 1] - max(-hi, 0)) for i, (lo, hi) in enumerate(self.padding)])
        ]
        for (_, k), part in zip(self._elements(), parts):
            seen[at_element(k, u.shape[1:-1], self.strides, self.dilation)] += part
        return canvas[
            (slice(None), *[slice(int(max(lo, 0)), int(max(lo, 0) + n)) for n, (lo, _) in zip(self.sizes, self.padding)])
        ].astype(u.dtype)

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        u = TensorType((2, 3, 5, 2), float32)
        spec = ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        rest = (u.with_dtype(int32),) * (cls.operands - 1)
        return [
            BadSample(cls(*spec, (5, 6)), (u, *rest), ShapeError, r"\[5, 6\] has \[4, 5\] windows, not \[3, 5\]"),
            BadSample(cls(*spec, (5,)), (u, *rest), ShapeError, r"sizes \[5\] are not for 2"),
            BadSample(cls(*spec, (4, 6)), (u.with_dtype(bool_), *rest), DTypeError, "needs numbers"),
            BadSample(cls(spec[0], (1,), *spec[2:], (4, 6)), (u, *rest), ShapeError, "strides .1,. are not for 2"),
        ]

    operands: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class SumPoolGrad(PoolSpread):
    """The sum, for each position, of the windows that read it: the derivative of ``SumPool``."""

    kind = "window"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        u = arrays[0]
        return self._canvas(u, (u for _ in self._elements()))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.node(SumPool(*self._settings), ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._backward(at, ks, node.inputs[0].shape[1:-1])
        x = guarded(inside, args[0](where), 0)
        return Fold(m.SUM, over, (x,)) if over else x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(*spec, sizes=x.shape[1:-1]), (rng.standard_normal(out).astype(np.float32),), tags=(tag,))
            for spec, x, out, tag in cls._cases(rng)
        ]


def pool_settings(x: Node, window, strides, padding, dilation) -> tuple:
    rank = x.rank - 2
    window = (window,) * rank if isinstance(window, int) else tuple(window)
    strides = window if strides is None else (strides,) * rank if isinstance(strides, int) else tuple(strides)
    padding = (
        ((padding, padding),) * rank
        if isinstance(padding, int)
        else tuple([(p, p) if isinstance(p, int) else tuple(p) for p in padding])
    )
    dilation = (dilation,) * rank if isinstance(dilation, int) else tuple(dilation)
    return window, strides, padding, dilation


def sum_pool(x, window, strides=None, padding=0, dilation=1) -> Node:
    x = f.constant(x)
    return f.node(SumPool(*pool_settings(x, window, strides, padding, dilation)), x)


def avg_pool(x, window, strides=None, padding=0, dilation=1, count_include_pad: bool = False) -> Node:
    """The mean of windows; padding counts as zeros with ``count_include_pad``, else only elements inside are averaged."""
    x = f.constant(x)
    x = x if x.dtype.is_float else f.cast(x, float32)
    settings = pool_settings(x, window, strides, padding, dilation)
    if x.dtype.itemsize == 2:  # sums and counts may be more than 16 bits hold
        return f.cast(avg_pool(f.cast(x, float32), window, strides, padding, dilation, count_include_pad), x.dtype)
    total = f.node(SumPool(*settings), x)
    if count_include_pad or all(type(w) is not dim.Dim and w <= 0 for pair in settings[2] for w in pair):
        return f.div(total, dim.size(settings[0]))
    ones = f.ones((1, *x.shape[1:-1], 1), x.dtype)
    return f.div(total, f.node(SumPool(*settings), ones))
