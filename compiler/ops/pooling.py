"""Pooling made of other ops: places of maxima, and windows whose sizes follow from the result's (adaptive pooling)."""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime import dim
from ...runtime.dtype import as_dtype, float32, int64
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node
from . import functional as f
from .maxpool import MaxPool, WindowArgMax
from .window import pool_settings


def max_pool_with_positions(x, window, strides=None, padding=0, dilation=1) -> tuple[Node, Node]:
    """``max_pool``, and for each maximum its row-major position (int64) among the spatial axes of ``x``: the first of equals."""
    x = f.constant(x)
    settings = pool_settings(x, window, strides, padding, dilation)
    number = f.cast(f.node(WindowArgMax(*settings), x), int64)
    places: list[Node] = []
    for axis in reversed(range(x.rank - 2)):
        k, s, (lo, _), d = (part[axis] for part in settings)
        element, number = f.mod(number, k), f.floordiv(number, k)
        first = f.sub(f.mul(f.iota(number.shape, axis + 1, int64), s), lo)
        places.insert(0, f.add(first, f.mul(element, d)))
    flat = places[0]
    for n, p in zip(x.shape[2:-1], places[1:]):
        flat = f.add(f.mul(flat, n), p)
    return f.node(MaxPool(*settings), x), flat


def _bins(name: str, x: Node, sizes: int | Sequence[int]) -> tuple[int, ...]:
    rank = x.rank - 2
    if rank < 1:
        raise ShapeError(f"{name} needs (N, *spatial, C), got {x.type}")
    out = (sizes,) * rank if isinstance(sizes, int) else tuple(sizes)
    if len(out) != rank:
        raise ShapeError(f"{name}: sizes {out} are not for {rank} spatial axes")
    if any(type(n) is not dim.Dim and n < 1 for n in out):
        raise ArgumentError(f"{name}: sizes {out} must be positive")
    return out


def _edges(n: int, count: int, shape: tuple[int, ...], axis: int) -> tuple[Node, Node]:
    """Bin i of ``count`` covers [floor(i n / count), ceil((i + 1) n / count)) of an axis of ``n``: i along ``axis``."""
    i = f.iota(shape, axis, int64)
    first = f.floordiv(f.mul(i, n), count)
    last = f.floordiv(f.add(f.mul(f.add(i, 1), n), count - 1), count)
    return first, last


def adaptive_avg_pool(x, sizes: int | Sequence[int]) -> Node:
    """Means over ``sizes`` bins that cover each spatial axis of (N, *spatial, C): one product with a matrix an axis."""
    x = f.constant(x)
    x = x if x.dtype.is_float else f.cast(x, float32)
    for axis, count in enumerate(_bins("adaptive_avg_pool", x, sizes), 1):
        n = x.shape[axis]
        first, last = _edges(n, count, (n, count), 1)
        place = f.iota((n, count), 0, int64)
        covered = f.logical_and(f.ge(place, first), f.lt(place, last))
        wide = x.dtype if x.dtype.itemsize >= 4 else float32
        weights = f.cast(f.where(covered, f.reciprocal(f.cast(f.sub(last, first), wide)), f.zeros((n, count), wide)), x.dtype)
        y = f.dot_general(x, weights, ((axis,), (0,)))
        x = f.transpose(y, (*range(axis), x.rank - 1, *range(axis, x.rank - 1)))
    return x


def adaptive_max_pool(x, sizes: int | Sequence[int]) -> Node:
    """Maxima over ``sizes`` bins that cover each spatial axis of (N, *spatial, C)."""
    x = f.constant(x)
    for axis, count in enumerate(_bins("adaptive_max_pool", x, sizes), 1):
        n = x.shape[axis]
        longest = dim.ceil_div(n, count) + 1  # of a bin: a bin may touch one element more
        first, last = _edges(n, count, (count, longest), 0)
        place = f.add(first, f.iota((count, longest), 1, int64))
        seen = f.take(x, f.minimum(place, n - 1), axis)
        lead = (1,) * axis
        inside = f.broadcast_to(f.reshape(f.lt(place, last), (*lead, count, longest, *(1,) * (x.rank - axis - 1))), seen.shape)
        x = f.max_(f.where(inside, seen, f.full(seen.shape, as_dtype(x.dtype).min, x.dtype)), (axis + 1,))
    return x


def max_unpool(x, positions, size: int) -> Node:
    """A vector of ``size`` with the elements of ``x`` at ``positions`` (of x's shape), 0 elsewhere."""
    x, positions = f.constant(x), f.constant(positions)
    n = dim.size(x.shape)
    return f.scatter(f.zeros((size,), x.dtype), f.reshape(positions, (n,)), f.reshape(x, (n,)), 0, "set")
