"""Contractions: batched sums of products (``einsum`` comes down to them)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...runtime import dim
from ...runtime.dtype import DType, as_dtype, bool_, float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel.expr import Axis, Cast, Expr, Fold
from ..kernel.monoid import dot
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text

PRECISIONS = ("highest", "high", "tf32", "bfloat16")


def check_precision(op: Op, precision: str) -> None:
    if precision not in PRECISIONS:
        raise ArgumentError(f"{op.name}: precision {precision!r} is none of {', '.join(PRECISIONS)}")


@dataclass(frozen=True, eq=False)
class DotGeneral(Op):
    """The sum of a * b over pairs of axes (``contract_a[i]`` with ``contract_b[i]``), for every point of the pairs of
    ``batch`` axes.

    Result axes: batch, then a's others, then b's others, each in order. Accumulates 16-bit floats in float32, 8 and 16-bit
    integers in int32, and rounds the sum to the operands' type; with ``accumulate`` the sum is taken, and given, in that type,
    and the operands may be of different (narrower) types of its kind: uint8 by int8 into int32, bfloat16 by float16 into float32.
    """

    contract_a: tuple[int, ...]
    contract_b: tuple[int, ...]
    batch_a: tuple[int, ...] = ()
    batch_b: tuple[int, ...] = ()
    precision: str = "highest"
    accumulate: DType | None = None

    kind = "contraction"

    def free(self, rank_a: int, rank_b: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of a and of b that are neither contracted nor batch."""
        return (
            tuple([i for i in range(rank_a) if i not in self.contract_a + self.batch_a]),
            tuple([i for i in range(rank_b) if i not in self.contract_b + self.batch_b]),
        )

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        check_precision(self, self.precision)
        for axes, t in ((self.contract_a + self.batch_a, a), (self.contract_b + self.batch_b, b)):
            if len(set(axes)) != len(axes) or any(not 0 <= i < t.rank for i in axes):
                raise ShapeError(f"DotGeneral: {axes} are not distinct axes of {t}")
        if len(self.contract_a) != len(self.contract_b) or len(self.batch_a) != len(self.batch_b):
            raise ShapeError(f"DotGeneral pairs axes of {a} with axes of {b}, got {self}")
        if self.accumulate is not None:
            _check_accumulator(self.accumulate, a, b)
        elif a.dtype is not b.dtype or a.dtype is bool_:
            raise DTypeError(f"DotGeneral needs numbers of one type, got {a} and {b}")
        for word, left, right in (("contracted", self.contract_a, self.contract_b), ("batch", self.batch_a, self.batch_b)):
            for i, j in zip(left, right):
                if a.shape[i] != b.shape[j]:
                    raise ShapeError(
                        f"DotGeneral: {word} axes have sizes {dim.text(a.shape[i])} (axis {i} of {a})"
                        f" and {dim.text(b.shape[j])} (axis {j} of {b})"
                    )
        free_a, free_b = self.free(a.rank, b.rank)
        shape = tuple([a.shape[i] for i in self.batch_a + free_a] + [b.shape[j] for j in free_b])
        return TensorType(shape, self.accumulate or a.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """One matrix product per batch entry, in float64."""
        a, b = arrays
        free_a, free_b = self.free(a.ndim, b.ndim)
        dtype = self.accumulate or as_dtype(a.dtype)
        wide = np.float64 if dtype.is_float else np.int64 if dtype.itemsize <= 4 else dtype.np
        left = np.transpose(a, self.batch_a + free_a + self.contract_a)
        right = np.transpose(b, self.batch_b + self.contract_b + free_b)
        nb, nc = len(self.batch_a), len(self.contract_a)
        batch, rows, k, columns = (
            left.shape[:nb],
            left.shape[nb : left.ndim - nc],
            right.shape[nb : nb + nc],
            right.shape[nb + nc :],
        )
        count = [int(np.prod(s, dtype=np.int64)) for s in (batch, rows, k, columns)]
        out = left.reshape(count[0], count[1], count[2]).astype(wide) @ right.reshape(count[0], count[2], count[3]).astype(wide)
        return out.reshape(batch + rows + columns).astype(dtype.np)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        if self.accumulate is not None:  # the derivative of the sum over operands cast to its type
            wide = tuple([f.cast(x, self.accumulate) for x in node.inputs])
            plain = replace(self, accumulate=None)
            return tuple([f.cast(g, x.dtype) for g, x in zip(plain.vjp(f.node(plain, *wide), ct), node.inputs) if g is not None])
        a, b = node.inputs
        free_a, free_b = self.free(a.rank, b.rank)
        nb = len(self.batch_a)
        ct_batch = tuple(range(nb))
        ct_a = tuple(range(nb, nb + len(free_a)))
        ct_b = tuple(range(nb + len(free_a), ct.rank))
        return (
            self._transposed(
                ct, b, a.rank, ct_batch, ct_b, free_b, self.batch_b, self.batch_a, free_a, self.contract_a, self.contract_b
            ),
            self._transposed(
                ct, a, b.rank, ct_batch, ct_a, free_a, self.batch_a, self.batch_b, free_b, self.contract_b, self.contract_a
            ),
        )

    def _transposed(
        self, ct: Node, other: Node, rank: int, ct_batch, ct_free, other_free, other_batch, batch, free, contract, other_contract
    ) -> Node:
        """The cotangent of one operand: ``ct`` times the other operand, over the other's free axes, in the operand's order of
        axes.
        """
        # The other's contracted axes come in the order of their positions.
        contracted = tuple([contract[i] for i in sorted(range(len(contract)), key=lambda i: other_contract[i])])
        if (*batch, *contracted, *free) == tuple(range(rank)):  # the other operand first: no transpose follows
            return f.node(DotGeneral(other_free, ct_free, other_batch, ct_batch, self.precision), other, ct)
        product = f.node(DotGeneral(ct_free, other_free, ct_batch, other_batch, self.precision), ct, other)
        return f.transpose(product, f.inverse((*batch, *free, *contracted)))

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        a, b = node.inputs
        free_a, free_b = self.free(a.rank, b.rank)
        over = ctx.axes([a.shape[i] for i in self.contract_a], "k")
        nb, nf = len(self.batch_a), len(free_a)
        ia = dict(zip(self.batch_a + free_a + self.contract_a, at[: nb + nf] + over))
        ib = dict(zip(self.batch_b + free_b + self.contract_b, at[:nb] + at[nb + nf :] + over))
        x, y = args[0](tuple([ia[i] for i in range(a.rank)])), args[1](tuple([ib[i] for i in range(b.rank)]))
        return contraction(over, x, y, node, self.precision)

    def flops(self, node: Node) -> int:
        a = node.inputs[0]
        return 2 * node.type.size * dim.size([a.shape[i] for i in self.contract_a])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def case(spec: tuple, a: tuple, b: tuple, tag: str, dtype=np.float32) -> Sample:
            numbers = (lambda s: rng.integers(-5, 6, s)) if np.dtype(dtype).kind == "i" else rng.standard_normal
            return Sample(cls(*spec), (numbers(a).astype(dtype), numbers(b).astype(dtype)), tags=(tag,))

        def draw(dtype: str, shape: tuple) -> np.ndarray:
            d = as_dtype(dtype)
            return (rng.standard_normal(shape) if d.is_float else rng.integers(d.min, d.max + 1, shape)).astype(d.np)

        return [
            case(((1,), (0,)), (3, 5), (5, 7), "odd"),
            case(((0,), (1,)), (5, 3), (7, 5), "odd"),
            case(((1,), (0,)), (3, 0), (0, 2), "size0"),
            case(((1,), (0,)), (0, 3), (3, 2), "size0"),
            case(((0,), (0,)), (1,), (1,), "size1"),
            case(((), ()), (3,), (2, 4), "odd"),
            case(((2,), (1,), (0,), (0,)), (2, 3, 5), (2, 5, 4), "broadcast"),
            case(((3, 1), (0, 2), (2,), (3,)), (3, 2, 4, 5), (5, 3, 2, 4), "odd"),
            case(((0, 2), (3, 1)), (2, 3, 4), (5, 4, 1, 2), "odd"),
            case(((1,), (0,)), (3, 129), (129, 2), "odd", as_dtype("bfloat16").np),
            case(((1,), (0,)), (3, 5), (5, 7), "odd", np.float64),
            case(((1,), (1,)), (3, 9), (2, 9), "odd", np.int32),
            case(((1,), (1,)), (3, 9), (2, 9), "odd", np.int8),
            *[
                Sample(
                    cls((1,), (0,), accumulate=as_dtype(into)),
                    (draw(a, (5, 37)), draw(b, (37, 19))),
                    tags=("odd",),
                    smooth=False,
                )
                for a, b, into in [
                    ("uint8", "int8", "int32"), ("int8", "int8", "int32"), ("int16", "uint8", "int64"),
                    ("bfloat16", "float16", "float32"),
                ]
            ],
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        a, b = TensorType((2, 3), float32), TensorType((4, 5), float32)
        return [
            BadSample(cls((1,), (0,)), (a, b), ShapeError, "contracted axes have sizes 3 .axis 1 of .* and 4"),
            BadSample(cls((), (), (0,), (0,)), (a, b), ShapeError, "batch axes have sizes 2"),
            BadSample(cls((1,), ()), (a, b), ShapeError, "pairs axes"),
            BadSample(cls((2,), (0,)), (a, b), ShapeError, "not distinct axes"),
            BadSample(cls((1,), (0,)), (a, TensorType((3, 2), int32)), DTypeError, "numbers of one type"),
            BadSample(cls((1,), (0,), accumulate=int32), (a, b.with_shape((3, 2))), DTypeError, "can't sum products of float32"),
            BadSample(cls((1,), (0,), precision="best"), (a, b.with_shape((3, 2))), ArgumentError, "'best' is none of highest"),
        ]


def _check_accumulator(into: DType, a: TensorType, b: TensorType) -> None:
    for t in (a, b):
        kind = t.dtype.is_float if into.is_float else t.dtype.is_int
        if not kind or t.dtype.itemsize > into.itemsize or not (into.is_float or into.is_int):
            raise DTypeError(f"DotGeneral can't sum products of {a} and {b} in {into}: it must be as wide, and of their kind")


def contraction(over: tuple[Axis, ...], x: Expr, y: Expr, node: Node, precision: str) -> Expr:
    """The sum of x * y over ``over``, rounded to the node's type."""
    total = Fold(dot(node.dtype, precision), over, (x, y))
    return total if total.dtype is node.dtype else Cast(total, node.dtype)


def dot_general(a, b, contract, batch=((), ()), precision: str | None = None, accumulate=None) -> Node:
    """The sum of a * b over the pairs of axes in ``contract`` = (axes of a, axes of b); see ``DotGeneral`` for the order of
    the result's axes, and for ``accumulate``, the type of the sum.
    """
    into = None if accumulate is None else as_dtype(accumulate)
    a, b = f.operands("dot_general", a, b) if into is None else (f.constant(a), f.constant(b))
    (ca, cb), (ba, bb) = [[f.axes_tuple("dot_general", ax, n.rank) for ax, n in zip(pair, (a, b))] for pair in (contract, batch)]
    return f.node(DotGeneral(ca, cb, ba, bb, precision or "highest", into), a, b)


def matmul(a, b, precision: str | None = None, accumulate=None) -> Node:
    """NumPy's matmul: the last two axes are matrices, axes before them broadcast, an operand of rank 1 is a vector.

    ``accumulate``: the type in which products are summed, and of the result (see ``DotGeneral``).
    """
    a, b = f.operands("matmul", a, b) if accumulate is None else (f.constant(a), f.constant(b))
    if not a.rank or not b.rank:
        raise ShapeError(f"matmul needs operands of rank >= 1, got {a.type} and {b.type}")
    if a.shape[-1] != b.shape[max(b.rank - 2, 0)]:
        raise ShapeError(
            f"matmul: {shape_text(a.shape)} and {shape_text(b.shape)} don't fit: {dim.text(a.shape[-1])} columns"
            f" against {dim.text(b.shape[max(b.rank - 2, 0)])} rows"
        )
    if b.rank <= 2:  # one matrix for all rows of a: no batch axes
        return dot_general(a, b, ((a.rank - 1,), (b.rank - 2 if b.rank > 1 else 0,)), ((), ()), precision, accumulate)
    if a.rank == 1:
        return f.squeeze(matmul(f.expand_dims(a, (0,)), b, precision, accumulate), (b.rank - 2,))
    lead = f.broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    a, b = f.broadcast_to(a, (*lead, *a.shape[-2:])), f.broadcast_to(b, (*lead, *b.shape[-2:]))
    n = len(lead)
    batch = tuple(range(n))
    return dot_general(a, b, ((n + 1,), (n,)), (batch, batch), precision, accumulate)
