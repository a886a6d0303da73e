"""Pooling windows over the spatial axes of (N, *spatial, C), and their derivatives in gather form (every result element sums what
reached it, so that no two threads write one place).

Window o reads position o*stride - low + k*dilation at its element k; elements outside are no part of a maximum and 0 in a sum. The gradient
of a maximum goes to its first place in row-major order of the window, as in XLA and TensorFlow; nan counts as the maximum.
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
from ..kernel import scalar_ops as s
from ..kernel import simplify as ix
from ..kernel.expr import TRUE, Cast, Const, Expr, Fold, Where, index, op
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text
from .conv import Pairs, at_element, check_window, padded, reached, reaching, window_axes, window_sizes

Cotangents = tuple[Node | None, ...]
# image, window, strides, padding, dilation, tag
_CASES = [((2, 7, 9, 3), (2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1), "odd"), ((1, 6, 5, 2), (3, 3), (1, 2), ((1, 1), (1, 0)), (1, 1), "odd"),
          ((2, 11, 3), (3,), (2,), ((1, 2),), (2,), "odd"), ((1, 4, 5, 3, 2), (2, 2, 3), (2, 1, 3), ((0, 1), (0, 0), (1, 1)), (1, 2, 1), "broadcast"),
          ((0, 4, 4, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), "size0"), ((1, 1, 1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), "size1"),
          ((1, 5, 3), (2,), (3,), ((3, 0),), (1,), "odd"), ((1, 9, 2), (2,), (2,), ((-1, -2),), (1,), "odd")]


@dataclass(frozen=True, eq=False)
class _Window(Op):
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
            probe = MaxPool(*spec)
            image = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) / 8
            yield tuple(spec), image, (shape[0], *probe._counts(shape[1:-1]), shape[-1]), tag

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3, 5, 2), float32)
        spec = ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        return [BadSample(cls((4, 2), *spec[1:]), (x,), ShapeError, "window of 4 .* larger than spatial axis 0 of size 3"),
                BadSample(cls(*spec), (x.with_shape((2, 3)),), ShapeError, "1 to 3 spatial axes"), BadSample(cls((2,), *spec[1:]), (x,), ShapeError, "window .2,. are not for 2"),
                BadSample(cls(spec[0], (0, 1), *spec[2:]), (x,), ArgumentError, "must be positive"), BadSample(cls(*spec), (x.with_dtype(bool_),), DTypeError, "needs numbers")]


def _inside(inside: Expr, x: Expr, other) -> Expr:
    return x if inside is TRUE else Where(inside, x, Const(other, x.dtype))


@dataclass(frozen=True, eq=False)
class _Forward(_Window):
    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        self._check(x)
        return x.with_shape((x.shape[0], *self._counts(x.shape[1:-1]), x.shape[-1]))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        # A window with nothing inside has an infinite maximum: no finite differences there.
        return [Sample(cls(*spec), (x,), smooth=bool(np.isfinite(cls(*spec).eval(x)).all()), tags=(tag,)) for spec, x, _, tag in cls._cases(rng)]


@dataclass(frozen=True, eq=False)
class MaxPool(_Forward):
    """The maximum of each window (-inf, or the least integer, where no element lies inside)."""

    kind = "window"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        dtype = as_dtype(x.dtype)
        x = x.astype(np.float64) if dtype.is_float else x
        counts, wide = self._counts(x.shape[1:-1]), padded(x, self.padding, dtype.min)
        out = np.full((x.shape[0], *map(int, counts), x.shape[-1]), dtype.min, x.dtype)
        for _, k in self._elements():
            out = np.maximum(out, wide[at_element(k, counts, self.strides, self.dilation)])
        return out.astype(dtype.np)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.node(WindowScatter(*self._settings, x.shape[1:-1]), ct, f.node(WindowArgMax(*self._settings), x)),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, node.inputs[0].shape[1:-1])
        x = _inside(inside, args[0](where), node.dtype.min)
        return Fold(m.MAX, over, (x,)) if over else x


@dataclass(frozen=True, eq=False)
class SumPool(_Forward):
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
        return (f.node(SumPoolGrad(*self._settings, node.inputs[0].shape[1:-1]), ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, node.inputs[0].shape[1:-1])
        x = _inside(inside, args[0](where), 0)
        return Fold(m.SUM, over, (x,)) if over else x


@dataclass(frozen=True, eq=False)
class WindowArgMax(_Window):
    """The row-major number (int32) of the element of each window that is its maximum: the first of equal ones inside, nan before numbers.

    A window with no element inside gives a number that no position answers to.
    """

    kind = "window"
    differentiable = False
    no_gradient = "a position is not a smooth function of the values"

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        self._check(x)
        return TensorType((x.shape[0], *self._counts(x.shape[1:-1]), x.shape[-1]), int32)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0].astype(np.float64) if as_dtype(arrays[0].dtype).is_float else arrays[0].astype(object)
        counts, wide = self._counts(x.shape[1:-1]), padded(x, self.padding)
        real = padded(np.ones(x.shape, bool), self.padding, False)
        total = int(np.prod(self.window))
        best = np.zeros((x.shape[0], *map(int, counts), x.shape[-1]), x.dtype)
        number = np.full(best.shape, -1, np.int32)
        for i, k in self._elements():
            at = at_element(k, counts, self.strides, self.dilation)
            v, ok = wide[at], real[at]
            nan = (v != v) & ~(best != best)
            take = (ok & ((number < 0) | (v > best) | nan)).astype(bool)
            best, number = np.where(take, v, best), np.where(take, np.int32(i), number)
        return np.where(number < 0, np.int32(total), number)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x = node.inputs[0].type
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, x.shape[1:-1])
        total = dim.size(self.window)
        number = self._number(ks)
        if inside is not TRUE:  # an element outside loses against equal ones inside
            number = Where(inside, number, index(total))
        value = _inside(inside, args[0](where), x.dtype.min)
        position = Fold(m.ARGMAX, over, (value, number), item=1) if over else number
        return Cast(position, int32)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for spec, x, _, tag in cls._cases(rng):
            out += [Sample(cls(*spec), (x,), tags=(tag,)), Sample(cls(*spec), (np.floor(x) % 3,), tags=(tag,))]
        special = rng.integers(0, 3, (2, 7, 5, 3)).astype(np.float32)
        special[special == 1] = -np.inf
        special[0, 1:3, 1:4, 0] = np.nan
        return [*out, Sample(cls((3, 3), (2, 1), ((1, 1), (2, 2)), (1, 1)), (special,)),
                Sample(cls((2, 2), (1, 1), ((1, 0), (0, 1)), (1, 1)), (rng.integers(-3, 3, (1, 4, 5, 2)).astype(np.int32),))]


@dataclass(frozen=True, eq=False)
class _Spread(_Window):
    """From values of windows back to the positions they read, spatial axes of ``sizes``."""

    sizes: tuple[int, ...] = ()

    def infer(self, *types: TensorType) -> TensorType:
        u = types[0]
        self._check(u)
        if len(self.sizes) != u.rank - 2:
            raise ShapeError(f"{self.name}: sizes {shape_text(self.sizes)} are not for {u.rank - 2} spatial axes")
        if u.shape[1:-1] != self._counts(self.sizes):
            raise ShapeError(f"{self.name}: {shape_text(self.sizes)} has {shape_text(self._counts(self.sizes))} windows, not {shape_text(u.shape[1:-1])}")
        return u.with_shape((u.shape[0], *self.sizes, u.shape[-1]))

    def _canvas(self, u: np.ndarray, parts) -> np.ndarray:
        """Adds ``parts`` (one array for each element of the window) where the windows read."""
        high = [int(n + max(lo, 0) + max(hi, 0)) for n, (lo, hi) in zip(self.sizes, self.padding)]
        canvas = np.zeros((u.shape[0], *high, u.shape[-1]), np.float64 if as_dtype(u.dtype).is_float else u.dtype)
        seen = canvas[(slice(None), *[slice(max(-lo, 0), canvas.shape[i + 1] - max(-hi, 0)) for i, (lo, hi) in enumerate(self.padding)])]
        for (_, k), part in zip(self._elements(), parts):
            seen[at_element(k, u.shape[1:-1], self.strides, self.dilation)] += part
        return canvas[(slice(None), *[slice(int(max(lo, 0)), int(max(lo, 0) + n)) for n, (lo, _) in zip(self.sizes, self.padding)])].astype(u.dtype)

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        u = TensorType((2, 3, 5, 2), float32)
        spec = ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        rest = (u.with_dtype(int32),) * (cls.operands - 1)
        return [BadSample(cls(*spec, (5, 6)), (u, *rest), ShapeError, r"\[5, 6\] has \[4, 5\] windows, not \[3, 5\]"),
                BadSample(cls(*spec, (5,)), (u, *rest), ShapeError, r"sizes \[5\] are not for 2"),
                BadSample(cls(*spec, (4, 6)), (u.with_dtype(bool_), *rest), DTypeError, "needs numbers"),
                BadSample(cls(spec[0], (1,), *spec[2:], (4, 6)), (u, *rest), ShapeError, "strides .1,. are not for 2")]

    operands: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class SumPoolGrad(_Spread):
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
        x = _inside(inside, args[0](where), 0)
        return Fold(m.SUM, over, (x,)) if over else x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec, x.shape[1:-1]), (rng.standard_normal(out).astype(np.float32),), tags=(tag,)) for spec, x, out, tag in cls._cases(rng)]


@dataclass(frozen=True, eq=False)
class WindowScatter(_Spread):
    """The sum, for each position, of ``u`` of the windows whose element ``number`` (int32) is that position: the derivative of ``MaxPool``."""

    kind = "window"
    operands = 2

    def infer(self, *types: TensorType) -> TensorType:
        u, number = types
        if number.dtype is not int32 or not number.with_dtype(u.dtype).same(u):
            raise ShapeError(f"{self.name} needs an int32 number for each window, got {u} and {number}")
        return super().infer(u)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        u, number = arrays
        return self._canvas(u, (np.where(number == i, u, u.dtype.type(0)) for i, _ in self._elements()))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return f.node(WindowGather(*self._settings), ct, node.inputs[1]), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._backward(at, ks, node.inputs[0].shape[1:-1])
        number = _inside(inside, args[1](where), -1)
        hit = op(s.eq, number, Cast(self._number(ks), int32))
        x = Where(hit, _inside(inside, args[0](where), 0), Const(0, node.dtype))
        return Fold(m.SUM, over, (x,)) if over else x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec, x.shape[1:-1]), (rng.standard_normal(out).astype(np.float32), WindowArgMax(*spec).eval(x)), tags=(tag,))
                for spec, x, out, tag in cls._cases(rng)]


@dataclass(frozen=True, eq=False)
class WindowGather(_Window):
    """For each window the element of the image whose ``number`` in the window is given (0 where that lies outside)."""

    kind = "window"

    def infer(self, *types: TensorType) -> TensorType:
        x, number = types
        self._check(x)
        out = x.with_shape((x.shape[0], *self._counts(x.shape[1:-1]), x.shape[-1]))
        if number.dtype is not int32 or not number.same(out.with_dtype(int32)):
            raise ShapeError(f"{self.name} needs an int32 number for each of the windows {out}, got {number}")
        return out

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, number = arrays
        wide = padded(x, self.padding)
        out = np.zeros(number.shape, x.dtype)
        for i, k in self._elements():
            out = np.where(number == i, wide[at_element(k, number.shape[1:-1], self.strides, self.dilation)], out)
        return out

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x, number = node.inputs
        return f.node(WindowScatter(*self._settings, x.shape[1:-1]), ct, number), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, node.inputs[0].shape[1:-1])
        hit = op(s.eq, args[1](at), Cast(self._number(ks), int32))
        x = Where(hit, _inside(inside, args[0](where), 0), Const(0, node.dtype))
        return Fold(m.SUM, over, (x,)) if over else x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec), (x, WindowArgMax(*spec).eval(x)), tags=(tag,)) for spec, x, _, tag in cls._cases(rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, spec = TensorType((2, 3, 5, 2), float32), ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        return [BadSample(cls(*spec), (x, TensorType((2, 3, 4, 2), int32)), ShapeError, r"windows float32\[2, 2, 4, 2\], got int32\[2, 3, 4, 2\]"),
                BadSample(cls(*spec), (x, TensorType((2, 2, 4, 2), float32)), ShapeError, "int32 number")]


def _settings(x: Node, window, strides, padding, dilation) -> tuple:
    rank = x.rank - 2
    window = (window,) * rank if isinstance(window, int) else tuple(window)
    strides = window if strides is None else (strides,) * rank if isinstance(strides, int) else tuple(strides)
    padding = ((padding, padding),) * rank if isinstance(padding, int) else tuple([(p, p) if isinstance(p, int) else tuple(p) for p in padding])
    dilation = (dilation,) * rank if isinstance(dilation, int) else tuple(dilation)
    return window, strides, padding, dilation


def max_pool(x, window, strides=None, padding=0, dilation=1) -> Node:
    """The maximum of windows over the spatial axes of (N, *spatial, C); strides default to the window, padding counts for nothing."""
    x = f.constant(x)
    return f.node(MaxPool(*_settings(x, window, strides, padding, dilation)), x)


def sum_pool(x, window, strides=None, padding=0, dilation=1) -> Node:
    x = f.constant(x)
    return f.node(SumPool(*_settings(x, window, strides, padding, dilation)), x)


def avg_pool(x, window, strides=None, padding=0, dilation=1, count_include_pad: bool = False) -> Node:
    """The mean of windows; padding counts as zeros with ``count_include_pad``, else only elements inside are averaged."""
    x = f.constant(x)
    x = x if x.dtype.is_float else f.cast(x, float32)
    settings = _settings(x, window, strides, padding, dilation)
    total = f.node(SumPool(*settings), x)
    if count_include_pad or all(type(w) is not dim.Dim and w <= 0 for pair in settings[2] for w in pair):
        return f.div(total, dim.size(settings[0]))
    ones = f.ones((1, *x.shape[1:-1], 1), x.dtype)
    return f.div(total, f.node(SumPool(*settings), ones))
