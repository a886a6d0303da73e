"""Maximum pooling and its derivatives in gather form: a window remembers the number of its maximum's element, and every
position sums
the windows whose maximum it is.

The gradient goes to the first maximum in row-major order of the window, as in XLA and TensorFlow; nan counts as the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import as_dtype, float32, int32
from ...runtime.errors import ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import monoid as m
from ..kernel import scalar_ops as s
from ..kernel.expr import TRUE, Cast, Const, Expr, Fold, Where, index, op
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Sample
from .geometry import at_element, padded, window_axes
from .window import Pool, PoolingWindow, PoolSpread, guarded, pool_settings

Cotangents = tuple[Node | None, ...]


@dataclass(frozen=True, eq=False)
class MaxPool(Pool):
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
        return (f.node(WindowScatter(*self._settings, sizes=x.shape[1:-1]), ct, f.node(WindowArgMax(*self._settings), x)),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, node.inputs[0].shape[1:-1])
        x = guarded(inside, args[0](where), node.dtype.min)
        return Fold(m.MAX, over, (x,)) if over else x


@dataclass(frozen=True, eq=False)
class WindowArgMax(PoolingWindow):
    """The row-major number (int32) of the element of each window that is its maximum: the first of equal ones inside, nan
    before numbers.

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
        value = guarded(inside, args[0](where), x.dtype.min)
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
        return [
            *out,
            Sample(cls((3, 3), (2, 1), ((1, 1), (2, 2)), (1, 1)), (special,)),
            Sample(cls((2, 2), (1, 1), ((1, 0), (0, 1)), (1, 1)), (rng.integers(-3, 3, (1, 4, 5, 2)).astype(np.int32),)),
        ]


@dataclass(frozen=True, eq=False)
class WindowScatter(PoolSpread):
    """The sum, for each position, of ``u`` of the windows whose element ``number`` (int32) is that position: the derivative
    of ``MaxPool``.
    """

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
        number = guarded(inside, args[1](where), -1)
        hit = op(s.eq, number, Cast(self._number(ks), int32))
        x = Where(hit, guarded(inside, args[0](where), 0), Const(0, node.dtype))
        return Fold(m.SUM, over, (x,)) if over else x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(
                cls(*spec, sizes=x.shape[1:-1]),
                (rng.standard_normal(out).astype(np.float32), WindowArgMax(*spec).eval(x)),
                tags=(tag,),
            )
            for spec, x, out, tag in cls._cases(rng)
        ]


@dataclass(frozen=True, eq=False)
class WindowGather(PoolingWindow):
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
        return f.node(WindowScatter(*self._settings, sizes=x.shape[1:-1]), ct, number), None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        ks, over = window_axes(ctx, self.window)
        where, inside = self._forward(at, ks, node.inputs[0].shape[1:-1])
        hit = op(s.eq, args[1](at), Cast(self._number(ks), int32))
        x = Where(hit, guarded(inside, args[0](where), 0), Const(0, node.dtype))
        return Fold(m.SUM, over, (x,)) if over else x

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec), (x, WindowArgMax(*spec).eval(x)), tags=(tag,)) for spec, x, _, tag in cls._cases(rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, spec = TensorType((2, 3, 5, 2), float32), ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        return [
            BadSample(
                cls(*spec),
                (x, TensorType((2, 3, 4, 2), int32)),
                ShapeError,
                r"windows float32\[2, 2, 4, 2\], got int32\[2, 3, 4, 2\]",
            ),
            BadSample(cls(*spec), (x, TensorType((2, 2, 4, 2), float32)), ShapeError, "int32 number"),
        ]


def max_pool(x, window, strides=None, padding=0, dilation=1) -> Node:
    """The maximum of windows over the spatial axes of (N, *spatial, C); strides default to the window, padding counts for
    nothing.
    """
    x = f.constant(x)
    return f.node(MaxPool(*pool_settings(x, window, strides, padding, dilation)), x)
