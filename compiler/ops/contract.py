"""Contractions: batched sums of products, and the functions that come down to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dim import key
from ...runtime.dtype import as_dtype, bool_, float32, int32
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
    integers in int32,
    and rounds the sum to the operands' type.
    """

    contract_a: tuple[int, ...]
    contract_b: tuple[int, ...]
    batch_a: tuple[int, ...] = ()
    batch_b: tuple[int, ...] = ()
    precision: str = "highest"

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
        if a.dtype is not b.dtype or a.dtype is bool_:
            raise DTypeError(f"DotGeneral needs numbers of one type, got {a} and {b}")
        for word, left, right in (("contracted", self.contract_a, self.contract_b), ("batch", self.batch_a, self.batch_b)):
            for i, j in zip(left, right):
                if a.shape[i] != b.shape[j]:
                    raise ShapeError(
                        f"DotGeneral: {word} axes have sizes {dim.text(a.shape[i])} (axis {i} of {a})"
                        f" and {dim.text(b.shape[j])} (axis {j} of {b})"
                    )
        free_a, free_b = self.free(a.rank, b.rank)
        return TensorType(tuple([a.shape[i] for i in self.batch_a + free_a] + [b.shape[j] for j in free_b]), a.dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """One matrix product per batch entry, in float64."""
        a, b = arrays
        free_a, free_b = self.free(a.ndim, b.ndim)
        wide = np.float64 if as_dtype(a.dtype).is_float else np.int64 if a.dtype.itemsize <= 4 else a.dtype
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
        return out.reshape(batch + rows + columns).astype(a.dtype)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
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
            draw = (lambda s: rng.integers(-5, 6, s)) if np.dtype(dtype).kind == "i" else rng.standard_normal
            return Sample(cls(*spec), (draw(a).astype(dtype), draw(b).astype(dtype)), tags=(tag,))

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
            BadSample(cls((1,), (0,), precision="best"), (a, b.with_shape((3, 2))), ArgumentError, "'best' is none of highest"),
        ]


def contraction(over: tuple[Axis, ...], x: Expr, y: Expr, node: Node, precision: str) -> Expr:
    """The sum of x * y over ``over``, rounded to the node's type."""
    total = Fold(dot(node.dtype, precision), over, (x, y))
    return total if total.dtype is node.dtype else Cast(total, node.dtype)


def dot_general(a, b, contract, batch=((), ()), precision: str | None = None) -> Node:
    """The sum of a * b over the pairs of axes in ``contract`` = (axes of a, axes of b); see ``DotGeneral`` for the order of
    the result's axes.
    """
    a, b = f.operands("dot_general", a, b)
    (ca, cb), (ba, bb) = [[f.axes_tuple("dot_general", ax, n.rank) for ax, n in zip(pair, (a, b))] for pair in (contract, batch)]
    return f.node(DotGeneral(ca, cb, ba, bb, precision or "highest"), a, b)


def matmul(a, b, precision: str | None = None) -> Node:
    """NumPy's matmul: the last two axes are matrices, axes before them broadcast, an operand of rank 1 is a vector."""
    a, b = f.operands("matmul", a, b)
    if not a.rank or not b.rank:
        raise ShapeError(f"matmul needs operands of rank >= 1, got {a.type} and {b.type}")
    if a.shape[-1] != b.shape[max(b.rank - 2, 0)]:
        raise ShapeError(
            f"matmul: {shape_text(a.shape)} and {shape_text(b.shape)} don't fit: {dim.text(a.shape[-1])} columns"
            f" against {dim.text(b.shape[max(b.rank - 2, 0)])} rows"
        )
    if b.rank <= 2:  # one matrix for all rows of a: no batch axes
        return dot_general(a, b, ((a.rank - 1,), (b.rank - 2 if b.rank > 1 else 0,)), precision=precision)
    if a.rank == 1:
        return f.squeeze(matmul(f.expand_dims(a, (0,)), b, precision), (b.rank - 2,))
    lead = f.broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    a, b = f.broadcast_to(a, (*lead, *a.shape[-2:])), f.broadcast_to(b, (*lead, *b.shape[-2:]))
    n = len(lead)
    batch = tuple(range(n))
    return dot_general(a, b, ((n + 1,), (n,)), (batch, batch), precision)


def einsum(equation: str, *xs, precision: str | None = None) -> Node:
    """NumPy's einsum, contracted from left to right ("..." and repeated labels of one operand are allowed)."""
    nodes = list(f.operands("einsum", *xs))
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(nodes):
        raise ArgumentError(f"einsum {equation!r} has {len(terms)} operands, got {len(nodes)}")
    spare = [c for c in map(chr, range(0x410, 0x450)) if c not in equation]  # labels for "..."
    widest = 0
    for i, (t, n) in enumerate(zip(terms, nodes)):
        if "..." in t:
            extra = n.rank - len(t) + 3
            widest = max(widest, extra)
            terms[i] = t.replace("...", "".join(spare[len(spare) - extra :]) if extra else "")
        if len(terms[i]) != n.rank:
            raise ShapeError(f"einsum {equation!r}: operand {i} has {len(terms[i])} labels for {n.type}")
    dots = "".join(spare[len(spare) - widest :]) if widest else ""
    if "->" in equation:
        output = output.replace("...", dots)
    else:
        letters = "".join(terms)
        output = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    sizes: dict[str, int] = {}
    for t, n in zip(terms, nodes):
        for c, m in zip(t, n.shape):
            if c not in sizes or (type(sizes[c]) is not dim.Dim and sizes[c] == 1):
                sizes[c] = m
            elif key(sizes[c]) != key(m) and not (type(m) is not dim.Dim and m == 1) and sizes[c] != m:
                raise ShapeError(f"einsum {equation!r}: label {c} has sizes {dim.text(sizes[c])} and {dim.text(m)}")
    if any(c not in sizes for c in output) or len(set(output)) != len(output):
        raise ArgumentError(f"einsum {equation!r}: the result's labels must be distinct and occur in an operand")
    for i, t in enumerate(terms):
        nodes[i], terms[i] = _diagonal(nodes[i], t)
        ones = [a for a, c in enumerate(terms[i]) if key(nodes[i].shape[a]) != key(sizes[c])]
        if ones:  # a size of 1 that another operand broadcasts
            nodes[i] = f.broadcast_to(nodes[i], tuple([sizes[c] for c in terms[i]]))
    a, ta = nodes[0], terms[0]
    for i in range(1, len(nodes)):
        later = set(output).union(*terms[i + 1 :])
        a, ta = _pair(a, ta, nodes[i], terms[i], later, precision)
    gone = tuple([i for i, c in enumerate(ta) if c not in output])
    a, ta = f.sum_(a, gone) if gone else a, "".join(c for c in ta if c in output)
    return f.transpose(a, tuple([ta.index(c) for c in output]))


def _diagonal(x: Node, labels: str) -> tuple[Node, str]:
    """Repeated labels of one operand become one axis."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            n = x.shape[i]
            eye = f.eq(f.iota(x.shape, i, int32), f.iota(x.shape, j, int32))
            if x.shape[j] != n:
                raise ShapeError(f"einsum: label {c} has sizes {dim.text(n)} and {dim.text(x.shape[j])} in one operand")
            x, labels = f.sum_(f.where(eye, x, 0), (j,)), labels[:j] + labels[j + 1 :]
    return x, labels


def _pair(a: Node, ta: str, b: Node, tb: str, later: set[str], precision: str | None) -> tuple[Node, str]:
    """Contracts two operands over the labels that nothing later needs."""
    for only, other in ((ta, tb), (tb, ta)):
        gone = tuple([i for i, c in enumerate(only) if c not in later and c not in other])
        if gone and only is ta:
            a = f.sum_(a, gone)
            ta = "".join(c for c in ta if c in later or c in tb)
        elif gone:
            b = f.sum_(b, gone)
            tb = "".join(c for c in tb if c in later or c in ta)
    shared = [c for c in ta if c in tb]
    over, batch = [c for c in shared if c not in later], [c for c in shared if c in later]
    ca, cb, ba, bb = (tuple([t.index(c) for c in labels]) for labels in (over, batch) for t in (ta, tb))
    out = f.node(DotGeneral(ca, cb, ba, bb, precision or "highest"), a, b)
    return out, "".join(batch) + "".join(c for c in ta if c not in shared) + "".join(c for c in tb if c not in shared)
