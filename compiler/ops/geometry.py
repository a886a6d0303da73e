"""Where windows lie: the arithmetic that convolutions and pools share, for shapes, for index expressions, and for the oracle.

Along a spatial axis with stride s, low padding l and dilation d, window o reads position o*s - l + k*d at its element k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...runtime import dim
from ...runtime.errors import ArgumentError, ShapeError
from ..kernel import simplify as ix
from ..kernel.expr import Axis, Expr, index
from .base import LowerContext, Op, is_one

Pairs = tuple[tuple[int, int], ...]


def window_sizes(
    name: str, sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> tuple[int, ...]:
    """How many windows fit along each spatial axis; raises ShapeError where the padded axis is smaller than the window."""
    out = []
    for axis, (n, k, s, (lo, hi), d) in enumerate(zip(sizes, window, strides, padding, dilation)):
        room = n + lo + hi - (k - 1) * d - 1
        if room < 0:
            raise ShapeError(
                f"{name}: a window of {dim.text(k)} (dilation {d}) is larger than spatial axis {axis}"
                f" of size {dim.text(n)} padded by ({dim.text(lo)}, {dim.text(hi)})"
            )
        out.append(room + 1 if s == 1 else room // s + 1)
    return tuple(out)


def check_window(op: Op, rank: int, strides, padding, dilation, window=None) -> None:
    """Lengths and signs of the attributes for ``rank`` spatial axes."""
    for word, values in (("strides", strides), ("padding", padding), ("dilation", dilation), ("window", window)):
        if values is not None and len(values) != rank:
            raise ShapeError(f"{op.name}: {word} {values} are not for {rank} spatial axes")
        if values is not None and word != "padding" and any(type(v) is not dim.Dim and v < 1 for v in values):
            raise ArgumentError(f"{op.name}: {word} {values} must be positive")


def reached(o: Expr, k: Expr | int, stride: int, low: int, dilation: int) -> Expr:
    """The position that window ``o`` reads at its element ``k``: o*stride - low + k*dilation."""
    element = ix.mul(k, dilation) if isinstance(k, Expr) else index(k * dilation)
    return ix.sub(ix.add(ix.mul(o, stride), element), index(low))


def reaching(i: Expr, k: Expr | int, stride: int, low: int, dilation: int, count: int) -> tuple[Expr, Expr]:
    """The window that reads position ``i`` at its element ``k``, and the condition that there is one (of ``count``)."""
    element = ix.mul(k, dilation) if isinstance(k, Expr) else index(k * dilation)
    p = ix.sub(ix.add(i, index(low)), element)
    if stride == 1:
        return p, ix.within(p, 0, count)
    o = ix.floordiv(p, stride)
    return o, ix.both(ix.equal(ix.mod(p, stride), index(0)), ix.within(o, 0, count))


def window_axes(ctx: LowerContext, extents: Sequence[int], prefix: str = "k") -> tuple[list[Expr], tuple[Axis, ...]]:
    """An index for each extent and the axes among them: sizes of 1 need none."""
    where, over = [], []
    for n in extents:
        if is_one(n):
            where.append(index(0))
        else:
            (a,) = ctx.axes([n], prefix)
            where.append(a)
            over.append(a)
    return where, tuple(over)


def padded(x: np.ndarray, padding: Pairs, value=0) -> np.ndarray:
    """``x`` (N, *spatial, C) padded, or cropped, on its spatial axes (the oracle's)."""
    widths = [(0, 0), *[(max(int(lo), 0), max(int(hi), 0)) for lo, hi in padding], (0, 0)]
    x = np.pad(x, widths, constant_values=value)
    return x[(slice(None), *[slice(max(-int(lo), 0), x.shape[i + 1] - max(-int(hi), 0)) for i, (lo, hi) in enumerate(padding)])]


def at_element(k: Sequence[int], out: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> tuple:
    """The slices of a padded image that all windows read at their element ``k``."""
    return (
        slice(None),
        *[slice(e * d, e * d + (int(n) - 1) * s + 1 if n else e * d, s) for e, n, s, d in zip(k, out, strides, dilation)],
    )
