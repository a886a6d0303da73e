"""Diagonals of matrices, and matrices made of diagonals: each is the other's derivative. Triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import float32
from ...runtime.errors import ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import simplify as ix
from ..kernel.expr import Const, Expr, Where, index
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample

Cotangents = tuple[Node | None, ...]


def _length(rows: int, columns: int, offset: int) -> int:
    return dim.dim_max(dim.dim_min(rows + min(offset, 0), columns - max(offset, 0)), 0)


def _check_axes(op: Op, axes: tuple[int, int], rank: int, what: TensorType) -> None:
    if axes[0] == axes[1] or not all(0 <= a < rank for a in axes):
        raise ShapeError(f"{op.name}: {axes} are not two axes of the {rank} of {what}")


# matrix, offset, axes, tag
_CASES = [
    ((5, 3), 0, (0, 1), "odd"),
    ((5, 7), 2, (1, 0), "odd"),
    ((2, 4, 5), -1, (1, 2), "odd"),
    ((2, 3, 4, 3), 0, (3, 1), "broadcast"),
    ((1, 1), 0, (0, 1), "size1"),
    ((0, 3), 0, (0, 1), "size0"),
    ((2, 3), 5, (0, 1), "size0"),
]


@dataclass(frozen=True, eq=False)
class Diagonal(Op):
    """The elements of ``x`` whose index along ``axis2`` is that along ``axis1`` plus ``offset``, along a new last axis."""

    offset: int
    axis1: int
    axis2: int

    kind = "movement"
    affine = True
    cheap = True

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        _check_axes(self, (self.axis1, self.axis2), x.rank, x)
        rest = tuple([n for a, n in enumerate(x.shape) if a not in (self.axis1, self.axis2)])
        return x.with_shape((*rest, _length(x.shape[self.axis1], x.shape[self.axis2], self.offset)))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.diagonal(arrays[0], self.offset, self.axis1, self.axis2).copy()

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        shape = node.inputs[0].shape
        place = DiagonalMatrix(self.offset, self.axis1, self.axis2, shape[self.axis1], shape[self.axis2])
        return (f.node(place, ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        where = list(at[:-1])
        ends = {self.axis1: ix.add(at[-1], index(max(-self.offset, 0))), self.axis2: ix.add(at[-1], index(max(self.offset, 0)))}
        for a in sorted(ends):
            where.insert(a, ends[a])
        return args[0](tuple(where))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(offset, *axes), (rng.standard_normal(shape).astype(np.float32),), tags=(tag,))
            for shape, offset, axes, tag in _CASES
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((3, 4), float32)
        return [
            BadSample(cls(0, 1, 1), (x,), ShapeError, "not two axes of the 2"),
            BadSample(cls(0, 0, 2), (x,), ShapeError, "not two axes of the 2"),
        ]


@dataclass(frozen=True, eq=False)
class DiagonalMatrix(Op):
    """Zeros of ``rows`` along a new ``axis1`` and ``columns`` along a new ``axis2``, with the last axis of ``x`` on the diagonal
    at ``offset``."""

    offset: int
    axis1: int
    axis2: int
    rows: int
    columns: int

    kind = "movement"

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if not x.rank:
            raise ShapeError(f"{self.name} needs a last axis to be the diagonal, got {x}")
        _check_axes(self, (self.axis1, self.axis2), x.rank + 1, x)
        n = _length(self.rows, self.columns, self.offset)
        if n != x.shape[-1]:
            raise ShapeError(
                f"{self.name}: the diagonal at {self.offset} of a {dim.text(self.rows)} by {dim.text(self.columns)} matrix has"
                f" {dim.text(n)} elements, got {x}")
        shape = list(x.shape[:-1])
        for a, m in sorted([(self.axis1, self.rows), (self.axis2, self.columns)]):
            shape.insert(a, m)
        return x.with_shape(tuple(shape))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0]
        out = np.zeros((*x.shape[:-1], int(self.rows), int(self.columns)), x.dtype)
        i = np.arange(x.shape[-1])
        out[..., i + max(-self.offset, 0), i + max(self.offset, 0)] = x
        return np.moveaxis(out, (-2, -1), (self.axis1, self.axis2))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.node(Diagonal(self.offset, self.axis1, self.axis2), ct),)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        row, column = at[self.axis1], at[self.axis2]
        i = ix.sub(row, index(max(-self.offset, 0)))
        inside = ix.both(ix.equal(column, ix.add(row, index(self.offset))), ix.within(i, 0, node.inputs[0].shape[-1]))
        rest = [e for a, e in enumerate(at) if a not in (self.axis1, self.axis2)]
        return Where(inside, args[0]((*rest, i)), Const(0, node.dtype))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(
                cls(offset, *axes, shape[axes[0]], shape[axes[1]]),
                (np.diagonal(rng.standard_normal(shape), offset, *axes).astype(np.float32),),
                tags=(tag,),
            )
            for shape, offset, axes, tag in _CASES
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((3,), float32)
        return [
            BadSample(cls(0, 0, 1, 4, 5), (x,), ShapeError, "4 by 5 matrix has 4 elements"),
            BadSample(cls(0, 0, 2, 3, 3), (x,), ShapeError, "not two axes of the 2"),
            BadSample(cls(0, 0, 1, 1, 1), (x.with_shape(()),), ShapeError, "needs a last axis"),
        ]


def _two_axes(name: str, axis1: int, axis2: int, rank: int) -> tuple[int, int]:
    return f.one_axis(name, axis1, rank), f.one_axis(name, axis2, rank)


def diagonal(x, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """NumPy's diagonal: the elements where ``axis2``'s index is ``axis1``'s plus ``offset``, along a new last axis."""
    x = f.constant(x)
    return f.node(Diagonal(offset, *_two_axes("diagonal", axis1, axis2, x.rank)), x)


def diagonal_matrix(
    x, offset: int = 0, axis1: int = -2, axis2: int = -1, rows: int | None = None, columns: int | None = None
) -> Node:
    """The last axis of ``x`` on a diagonal of new axes, zeros elsewhere; ``rows`` and ``columns`` default to the least that
    fit."""
    x = f.constant(x)
    if not x.rank:
        raise ShapeError(f"diagonal_matrix needs a last axis to be the diagonal, got {x.type}")
    n = x.shape[-1]
    rows = n + max(-offset, 0) if rows is None else rows
    columns = n + max(offset, 0) if columns is None else columns
    return f.node(DiagonalMatrix(offset, *_two_axes("diagonal_matrix", axis1, axis2, x.rank + 1), rows, columns), x)


def tri(rows: int, columns: int | None = None, offset: int = 0, dtype=float32) -> Node:
    """1 on and below the diagonal at ``offset``, else 0."""
    shape = (rows, rows if columns is None else columns)
    return f.cast(f.le(f.iota(shape, 1), f.add(f.iota(shape, 0), offset)), dtype)


def tril(x, offset: int = 0) -> Node:
    """The last two axes' elements on and below the diagonal at ``offset``; 0 above."""
    return _triangle(x, offset, f.le)


def triu(x, offset: int = 0) -> Node:
    """The last two axes' elements on and above the diagonal at ``offset``; 0 below."""
    return _triangle(x, offset, f.ge)


def _triangle(x, offset: int, compare) -> Node:
    x = f.constant(x)
    if x.rank < 2:
        raise ShapeError(f"a triangle needs a matrix, got {x.type}")
    rows, columns = f.iota(x.shape, x.rank - 2), f.iota(x.shape, x.rank - 1)
    return f.where(compare(columns, f.add(rows, offset)), x, f.zeros_like(x))
