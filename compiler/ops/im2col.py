"""Windows laid out beside each other (im2col) and added back where they lay (col2im): each is the other's derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dim import key
from ...runtime.dtype import bool_, float32, int32
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import monoid as m
from ..kernel.expr import Expr, Fold
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Sample, shape_text
from .geometry import at_element, padded, window_axes
from .window import PoolingWindow, PoolSpread, guarded, pool_settings

Cotangents = tuple[Node | None, ...]


@dataclass(frozen=True, eq=False)
class Im2Col(PoolingWindow):
    """(N, *windows, *window, C): the elements of each window over the spatial axes of (N, *spatial, C), 0 outside."""

    kind = "movement"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        self._check(x, numbers=False)
        return x.with_shape((x.shape[0], *self._counts(x.shape[1:-1]), *self.window, x.shape[-1]))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        (x,) = arrays
        counts, wide = self._counts(x.shape[1:-1]), padded(x, self.padding)
        out = np.zeros((x.shape[0], *map(int, counts), *map(int, self.window), x.shape[-1]), x.dtype)
        for _, k in self._elements():
            out[(slice(None), *[slice(None)] * len(k), *k)] = wide[at_element(k, counts, self.strides, self.dilation)]
        return out

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.node(Col2Im(*self._settings, sizes=node.inputs[0].shape[1:-1]), ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        d = len(self.window)
        where, inside = self._forward((*at[: 1 + d], at[-1]), at[1 + d : -1], node.inputs[0].shape[1:-1])
        return guarded(inside, args[0](where), False if node.dtype is bool_ else 0)

    def reads(self, node: Node, i: int) -> str:
        return "expand"

    def flops(self, node: Node) -> int:
        return 0

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = [Sample(cls(*spec), (x,), tags=(tag,)) for spec, x, _, tag in cls._cases(rng)]
        spec = ((2, 3), (1, 2), ((1, 0), (0, 1)), (1, 1))
        return [
            *out,
            Sample(cls(*spec), (rng.integers(0, 2, (2, 4, 5, 3)).astype(bool),), tags=("odd",)),
            Sample(cls(*spec), (rng.integers(-9, 9, (2, 4, 5, 3)).astype(np.int8),), tags=("odd",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [b for b in super().bad_samples() if b.error is not DTypeError]


@dataclass(frozen=True, eq=False)
class Col2Im(PoolSpread):
    """(N, *sizes, C): the elements of windows (N, *windows, *window, C) added where they lay; those outside are dropped."""

    kind = "window"

    def infer(self, *types: TensorType) -> TensorType:
        (u,) = types
        d = len(self.window)
        if u.dtype is bool_:
            raise DTypeError(f"Col2Im needs numbers, got {u}")
        if not 1 <= d <= 3 or u.rank != 2 * d + 2:
            raise ShapeError(f"Col2Im of windows {shape_text(self.window)} needs (N, windows, window, C) of 1 to 3 spatial axes each, got {u}")
        if len(self.sizes) != d:
            raise ShapeError(f"Col2Im: sizes {shape_text(self.sizes)} are not for {d} spatial axes")
        image = u.with_shape((u.shape[0], *self.sizes, u.shape[-1]))
        self._check(image)
        expected = (*self._counts(self.sizes), *self.window)
        if key(u.shape[1:-1]) != key(expected) and u.shape[1:-1] != expected:
            raise ShapeError(
                f"Col2Im: an image of {shape_text(self.sizes)} has windows {shape_text(expected)}, not {shape_text(u.shape[1:-1])}"
            )
        return image

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        (u,) = arrays
        d = len(self.window)
        parts = [u[(slice(None), *[slice(None)] * d, *k)] for _, k in self._elements()]
        shape = (*u.shape[: 1 + d], u.shape[-1])
        return self._canvas(np.zeros(shape, u.dtype), parts)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.node(Im2Col(*self._settings), ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        d = len(self.window)
        ks, over = window_axes(ctx, self.window)
        where, inside = self._backward(at, ks, node.inputs[0].shape[1 : 1 + d])
        x = guarded(inside, args[0]((*where[:-1], *ks, where[-1])), 0)
        return Fold(m.SUM, over, (x,)) if over else x

    def reads(self, node: Node, i: int) -> str:
        return "reduce"

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def draw(shape: tuple, window: tuple) -> np.ndarray:
            return rng.standard_normal((*shape[:-1], *window, shape[-1])).astype(np.float32)

        return [
            Sample(cls(*spec, sizes=x.shape[1:-1]), (draw(out, spec[0]),), tags=(tag,)) for spec, x, out, tag in cls._cases(rng)
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        u = TensorType((2, 3, 5, 2, 2, 4), float32)
        spec = ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        return [
            BadSample(cls(*spec, (5, 6)), (u,), ShapeError, r"of \[5, 6\] has windows \[4, 5, 2, 2\], not \[3, 5, 2, 2\]"),
            BadSample(cls(*spec, (5,)), (u,), ShapeError, r"sizes \[5\] are not for 2"),
            BadSample(cls(*spec, (4, 6)), (u.with_dtype(bool_),), DTypeError, "needs numbers"),
            BadSample(cls(*spec, (4, 6)), (u.with_dtype(int32).with_shape((2, 3, 5)),), ShapeError, "1 to 3 spatial axes"),
        ]


def im2col(x, window, strides=1, padding=0, dilation=1) -> Node:
    """(N, *windows, *window, C): windows over the spatial axes of (N, *spatial, C), which may overlap; 0 in the padding."""
    x = f.constant(x)
    return f.node(Im2Col(*pool_settings(x, window, strides, padding, dilation)), x)


def col2im(columns, sizes: Sequence[int], strides=1, padding=0, dilation=1) -> Node:
    """(N, *sizes, C): windows (N, *windows, *window, C) added where ``im2col`` reads them."""
    columns = f.constant(columns)
    d = len(sizes)
    window = columns.shape[1 + d : 1 + 2 * d]
    image = f.zeros((1, *sizes, 1), columns.dtype)  # for the number of axes
    return f.node(Col2Im(*pool_settings(image, window, strides, padding, dilation), sizes=tuple(sizes)), columns)
