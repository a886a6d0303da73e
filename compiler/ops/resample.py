"""Resampling along one axis: every result element is a weighted sum of a few elements of the axis, given by tables.

The transposed tables (for each element of the axis, the results that read it) give the derivative in the same gather form, so
that forward, derivative, and the derivative's derivative are one op that runs in parallel and sums in a fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import DType, as_dtype, float32, int32
from ...runtime.errors import DTypeError, InternalError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import monoid as m
from ..kernel import scalar_ops as s
from ..kernel.expr import Cast, Const, Expr, Fold, Where, op
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample
from .index import checked


@dataclass(frozen=True, eq=False)
class Resample(Op):
    """y[.., o, ..] = sum over k of weight[o, k] * x[.., index[o, k], ..] along ``axis``; a weight of 0 reads nothing.

    Operands: x, index int32[out, taps], weight[out, taps], and the transposed tables back_index int32[n, taps'] and
    back_weight[n, taps'], with which the derivative is computed: they must describe the same matrix. Weights are constants: no
    gradient flows to them. They are float32 for 16-bit floats, else of x's type.
    """

    axis: int

    kind = "window"

    def infer(self, *types: TensorType) -> TensorType:
        x, index, weight, back_index, back_weight = types
        if not 0 <= self.axis < x.rank:
            raise ShapeError(f"{self.name}: there is no axis {self.axis} in {x}")
        if not x.dtype.is_float:
            raise DTypeError(f"{self.name} needs floats, got {x}")
        want = weight_type(x.dtype)
        for what, i, w in (("table", index, weight), ("transposed table", back_index, back_weight)):
            if i.rank != 2 or not i.dtype.is_int or w.dtype is not want or not w.same(i.with_dtype(want)):
                raise DTypeError(f"{self.name} of {x} needs a {what} of integers and one of {want} weights, got {i} and {w}")
        if back_index.shape[0] != x.shape[self.axis]:
            raise ShapeError(f"{self.name}: a transposed table {back_index} for axis {self.axis} of {x}")
        return x.with_shape((*x.shape[: self.axis], index.shape[0], *x.shape[self.axis + 1 :]))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """A product with the table's matrix."""
        x, index, weight = arrays[:3]
        matrix = np.zeros((index.shape[0], x.shape[self.axis]))
        for k in range(index.shape[1]):
            np.add.at(matrix, (np.arange(len(index)), index[:, k]), weight[:, k].astype(np.float64))
        out = np.moveaxis(np.tensordot(matrix, x.astype(np.float64), (1, self.axis)), 0, self.axis)
        return out.astype(x.dtype)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        _, index, weight, back_index, back_weight = node.inputs
        return f.node(Resample(self.axis), ct, back_index, back_weight, index, weight), None, None, None, None

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x, index = node.inputs[0].type, node.inputs[1].type
        over = ctx.axes([index.shape[1]], "k")
        o = at[self.axis]
        weight = args[2]((o, *over))
        i = checked(args[1]((o, *over)), x.shape[self.axis], self, ctx)
        value = args[0]((*at[: self.axis], i, *at[self.axis + 1 :]))
        value = value if value.dtype is weight.dtype else Cast(value, weight.dtype)
        zero = Const(0, weight.dtype)
        total: Expr = Fold(m.SUM, over, (Where(op(s.eq, weight, zero), zero, op(s.mul, weight, value)),))
        return total if total.dtype is x.dtype else Cast(total, x.dtype)

    def flops(self, node: Node) -> int:
        return 2 * node.type.size * node.inputs[1].shape[1]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for shape, axis, count, taps, dtype, tag in [
            ((2, 5, 3), 1, 7, 2, np.float32, "odd"),
            ((4, 9), 1, 3, 4, np.float32, "odd"),
            ((0, 3), 1, 2, 2, np.float32, "size0"),
            ((1,), 0, 1, 1, np.float32, "size1"),
            ((2, 1, 4, 33), 1, 5, 1, np.float32, "broadcast"),
            ((3, 6), 0, 4, 2, np.float16, "odd"),
            ((7, 5), 0, 4, 3, np.float64, "odd"),
        ]:
            rows = np.repeat(np.arange(count), taps)
            table = Table.of(rows, rng.integers(0, shape[axis], rows.size), rng.standard_normal(rows.size), count, shape[axis])
            x = rng.standard_normal(shape).astype(dtype)
            # Finite differences would move the weights too, which are constants: tests/ops/test_resize.py has the derivatives.
            out.append(Sample(cls(axis), (x, *table.arrays(as_dtype(dtype))), smooth=False, tags=(tag,)))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, i, w = TensorType((4, 3), float32), TensorType((5, 2), int32), TensorType((5, 2), float32)
        j, v = i.with_shape((4, 3)), w.with_shape((4, 3))
        return [
            BadSample(cls(2), (x, i, w, j, v), ShapeError, "no axis 2"),
            BadSample(cls(1), (x, i, w, j, v), ShapeError, "transposed table"),
            BadSample(cls(0), (x, i, w.with_dtype(int32), j, v), DTypeError, "of float32 weights"),
            BadSample(cls(0), (x.with_dtype(int32), i, w, j, v), DTypeError, "needs floats"),
        ]


def weight_type(dtype: DType) -> DType:
    return dtype if dtype.itemsize >= 4 else float32


@dataclass(frozen=True)
class Table:
    """A sparse matrix [rows, columns] by rows and by columns: ``index`` and ``weight`` [rows, taps] and their transposed."""

    index: np.ndarray
    weight: np.ndarray
    back_index: np.ndarray
    back_weight: np.ndarray

    @staticmethod
    def of(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, n_rows: int, n_columns: int) -> Table:
        """From entries (added where they meet)."""
        flat, where = np.unique(rows.astype(np.int64) * n_columns + columns, return_inverse=True)
        total = np.zeros(len(flat))
        np.add.at(total, where, values)
        kept = total != 0
        r, c, v = flat[kept] // n_columns, flat[kept] % n_columns, total[kept]
        return Table(*_by_rows(r, c, v, n_rows), *_by_rows(c, r, v, n_columns))

    def arrays(self, dtype: DType) -> tuple[np.ndarray, ...]:
        w = weight_type(dtype).np
        return self.index, self.weight.astype(w), self.back_index, self.back_weight.astype(w)


def _by_rows(r: np.ndarray, c: np.ndarray, v: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((c, r))
    r, c, v = r[order], c[order], v[order]
    counts = np.bincount(r, minlength=n)
    slot = np.arange(len(r)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = np.zeros((n, max(int(counts.max(initial=1)), 1)), np.int32)
    weight = np.zeros(index.shape)
    index[r, slot], weight[r, slot] = c, v
    return index, weight


def resample(x, axis: int, table: Table) -> Node:
    """``x`` with ``axis`` multiplied by the table's matrix."""
    x = f.constant(x)
    axis = f.one_axis("resample", axis, x.rank)
    if not x.dtype.is_float:
        raise DTypeError(f"resample needs floats, got {x.type}")
    return f.node(Resample(axis), x, *map(f.constant, table.arrays(x.dtype)))


def pinned(n: int) -> int:
    """The number behind a size that tables depend on; a plan with a free one serves this value alone (others trace anew)."""
    if type(n) is dim.Dim:
        value = int(n)
        if n != value:  # recorded as a guard
            raise InternalError(f"a size of {n} differs from its own value")
        return value
    return n
