"""Linear algebra on (batches of) matrices. Cholesky, LU and triangular systems are routines; QR, singular values and eigenvalues are
computed on the host (LAPACK). The rest is made of these. Derivatives: Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008; Townsend, "Differentiating the singular value decomposition", 2016; Walter and Lehmann (QR), 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...runtime.dim import key, size
from ...runtime.dtype import float32, float64, int32
from ...runtime.errors import ArgumentError, DTypeError, GradientError, ShapeError
from ...runtime.host import lookup
from ..ir.graph import Node
from ..ir.types import TensorType, TupleType
from ..kernel.ir import Buffer
from ..kernel.routine import Factor, TriangularSolve
from . import functional as f
from .base import BadSample, Op, Sample

Cotangents = tuple[Node | None, ...]


def _matrix(op: Op, x: TensorType, square: bool = True) -> None:
    if x.dtype not in (float32, float64):
        raise DTypeError(f"{op.name} needs float32 or float64, got {x}")
    if x.rank < 2 or square and key(x.shape[-1]) != key(x.shape[-2]):
        raise ShapeError(f"{op.name} needs {'square matrices' if square else 'matrices'}, got {x}")


def _mT(x: Node) -> Node:
    """The matrices transposed."""
    return f.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _lower_half(x: Node) -> Node:
    """The lower triangle with half of the diagonal."""
    return f.mul(f.add(f.tril(x), f.tril(x, -1)), 0.5)


def eye(n: int, dtype: Any = float32) -> Node:
    return f.cast(f.eq(f.iota((n, n), 0), f.iota((n, n), 1)), dtype)


def matrix_diagonal(x: Node) -> Node:
    """The diagonals of square matrices: (..., n)."""
    same = f.eq(f.iota(x.shape, x.rank - 2), f.iota(x.shape, x.rank - 1))
    return f.sum_(f.where(same, x, 0), x.rank - 1)


def _diag(x: Node) -> Node:
    """Matrices with the diagonals x (..., n)."""
    shape = (*x.shape, x.shape[-1])
    same = f.eq(f.iota(shape, x.rank - 1), f.iota(shape, x.rank))
    return f.where(same, f.broadcast_to(f.expand_dims(x, x.rank), shape), 0)


def _definite(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    a = rng.standard_normal(shape)
    n = max(shape[-1], 1)
    return (a @ np.swapaxes(a, -1, -2) / n + np.eye(shape[-1])).astype(dtype)


_SQUARES = [((3, 3), np.float32, "odd"), ((2, 5, 5), np.float64, "odd"), ((0, 3, 3), np.float32, "size0"), ((2, 0, 0), np.float32, "size0"),
            ((1, 1), np.float64, "size1"), ((2, 1, 4, 4), np.float32, "broadcast"), ((19, 19), np.float64, "odd")]


@dataclass(frozen=True, eq=False)
class Cholesky(Op):
    """The lower L with L L^T = x, of the lower half of x; nan from the first row on that is not positive definite."""

    kind = "routine"

    def infer(self, *types: TensorType) -> TensorType:
        _matrix(self, types[0])
        return types[0]

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = arrays[0].astype(np.float64)
        return np.linalg.cholesky(np.tril(x) + np.swapaxes(np.tril(x, -1), -1, -2)).astype(arrays[0].dtype)

    def routine(self, node: Node) -> Factor:
        sizes = (size(node.shape[:-2]), node.shape[-1])
        shape = (*sizes, sizes[1])
        return Factor("cholesky", (Buffer("in0", shape, node.dtype), Buffer("out0", shape, node.dtype)), 1, sizes, "cholesky")

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = _lower_half(f.matmul(_mT(node), ct))
        s = f.node(TriangularSystem(True, True), node, _mT(f.node(TriangularSystem(True, True), node, x)))
        return (_lower_half(f.add(s, _mT(s))),)

    def flops(self, node: Node) -> int:
        return node.type.size * node.shape[-1] // 3

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(), (_definite(rng, shape, dtype),), tags=(tag,)) for shape, dtype, tag in _SQUARES]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad_squares(cls())


def _bad_squares(op: Op) -> list[BadSample]:
    x = TensorType((3, 2), float32)
    return [BadSample(op, (x,), ShapeError, r"square matrices, got float32\[3, 2\]"), BadSample(op, (x.with_shape((3, 3)).with_dtype(int32),), DTypeError, "float32 or float64"),
            BadSample(op, (x.with_shape((3,)),), ShapeError, "square matrices")]


@dataclass(frozen=True, eq=False)
class TriangularSystem(Op):
    """X with op(A) X = B for A (..., n, n), of which only the lower (upper) half is read, and B (..., n, m): op transposes where ``transposed``;
    ``unit``: the diagonal counts as ones."""

    lower: bool
    transposed: bool = False
    unit: bool = False

    kind = "routine"

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        _matrix(self, a)
        if a.dtype is not b.dtype or key(a.shape) != key((*b.shape[:-2], b.shape[-2], b.shape[-2])) if b.rank >= 2 else True:
            raise ShapeError(f"TriangularSystem needs A (..., n, n) and B (..., n, m) of one type, got {a} and {b}")
        return b

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        a, b = (x.astype(np.float64) for x in arrays)
        a = np.tril(a) if self.lower else np.triu(a)
        if self.unit:
            i = np.arange(a.shape[-1])
            a[..., i, i] = 1
        return np.linalg.solve(np.swapaxes(a, -1, -2) if self.transposed else a, b).astype(arrays[1].dtype)

    def routine(self, node: Node) -> TriangularSolve:
        n, m = node.shape[-2:]
        batch = size(node.shape[:-2])
        t = node.dtype
        buffers = (Buffer("in0", (batch, n, n), t), Buffer("in1", (batch, n, m), t), Buffer("out0", (batch, n, m), t))
        return TriangularSolve("triangular_solve", buffers, 1, (batch, n, m), self.lower, self.transposed, self.unit)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        a, _ = node.inputs
        g = f.node(TriangularSystem(self.lower, not self.transposed, self.unit), a, ct)
        outer = f.neg(f.matmul(node, _mT(g)) if self.transposed else f.matmul(g, _mT(node)))
        edge = (-1 if self.lower else 1) if self.unit else 0
        return (f.tril(outer, edge) if self.lower else f.triu(outer, edge)), g

    def flops(self, node: Node) -> int:
        return node.type.size * node.shape[-2]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for i, (shape, dtype, tag) in enumerate(_SQUARES):
            a = rng.standard_normal(shape) / max(shape[-1], 1) + 2 * np.eye(shape[-1])
            m = (3, 1, 18, 4, 1, 33, 70)[i]
            out.append(Sample(cls(bool(i & 1), bool(i & 2), bool(i & 4)), (a.astype(dtype), rng.standard_normal((*shape[:-1], m)).astype(dtype)), tags=(tag,)))
        a = (rng.standard_normal((4, 4)) / 4 + 2 * np.eye(4))
        return [*out, Sample(cls(True), (a, rng.standard_normal((4, 0))), tags=("size0",)), Sample(cls(True, False, True), (a, rng.standard_normal((4, 5))))]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((3, 3), float32)
        return [BadSample(cls(True), (x, x.with_shape((2, 3))), ShapeError, "B (...)?"), BadSample(cls(True), (x, x.with_dtype(float64)), ShapeError, "of one type"),
                BadSample(cls(True), (x.with_shape((3, 2)), x), ShapeError, "square matrices")]


@dataclass(frozen=True, eq=False)
class LU(Op):
    """x[order] = L U by partial pivoting: (L below its unit diagonal and U in one matrix, the rows' order int32 (..., n), the row that each
    step exchanged with its own: LAPACK's pivots from 0)."""

    kind = "routine"

    def infer(self, *types: TensorType) -> TupleType:  # type: ignore[override]
        (x,) = types
        _matrix(self, x)
        rows = TensorType(x.shape[:-1], int32)
        return TupleType((x, rows, rows))

    def eval(self, *arrays: np.ndarray) -> Any:
        a = arrays[0].astype(np.float64).copy()
        n = a.shape[-1]
        flat = a.reshape(size(a.shape[:-2]), n, n)
        orders, pivots = np.zeros(flat.shape[:2], np.int32), np.zeros(flat.shape[:2], np.int32)
        for m, order, pivot in zip(flat, orders, pivots):
            order[:] = range(n)
            for k in range(n):
                p = pivot[k] = k + int(np.argmax(np.abs(m[k:, k])))
                m[[k, p]], order[[k, p]] = m[[p, k]], order[[p, k]]
                if m[k, k] != 0:
                    m[k + 1:, k] /= m[k, k]
                m[k + 1:, k + 1:] -= np.outer(m[k + 1:, k], m[k, k + 1:])
        return flat.reshape(a.shape).astype(arrays[0].dtype), orders.reshape(a.shape[:-1]), pivots.reshape(a.shape[:-1])

    def routine(self, node: Node) -> Factor:
        (x,) = node.inputs
        sizes = (size(x.shape[:-2]), x.shape[-1])
        shape = (*sizes, sizes[1])
        buffers = (Buffer("in0", shape, x.dtype), Buffer("out0", shape, x.dtype), Buffer("out1", sizes, int32), Buffer("out2", sizes, int32))
        return Factor("lu", buffers, 3, sizes, "lu")

    def vjp(self, node: Node, ct: Any) -> Cotangents:
        lu, order, _ = f.results(node)
        given = ct[0] if ct[0] is not None else f.zeros_like(lu)
        low = f.add(f.tril(lu, -1), f.broadcast_to(eye(lu.shape[-1], lu.dtype), lu.shape))
        inner = f.add(f.tril(f.matmul(_mT(low), f.tril(given, -1)), -1), f.triu(f.matmul(f.triu(given), _mT(f.triu(lu)))))
        inner = f.node(TriangularSystem(True, True, True), lu, inner)
        rows = _mT(f.node(TriangularSystem(False), lu, _mT(inner)))
        places = f.broadcast_to(f.expand_dims(order, order.rank), lu.shape)
        return (f.scatter_along_axis(f.zeros_like(lu), places, rows, lu.rank - 2, "add"),)

    def flops(self, node: Node) -> int:
        x = node.inputs[0].type
        return 2 * x.size * x.shape[-1] // 3

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        # rows exchanged so that pivots aren't on the diagonal, well conditioned
        return [Sample(cls(), (np.roll(_definite(rng, shape, dtype), 1, -2),), tags=(tag,)) for shape, dtype, tag in _SQUARES]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad_squares(cls())


class _Host(Op):
    """Base: computed by a function of ``runtime.host``."""

    function = ""

    def host(self, node: Node) -> tuple[str, tuple[tuple[str, Any], ...]]:
        return self.function, self.arguments

    @property
    def arguments(self) -> tuple[tuple[str, Any], ...]:
        return ()

    def eval(self, *arrays: np.ndarray) -> Any:
        return tuple(np.ascontiguousarray(v) for v in lookup(self.function)(*arrays, **dict(self.arguments)))


_RECTANGLES = [((3, 2), np.float64, "odd"), ((2, 5, 3), np.float64, "odd"), ((0, 3, 3), np.float32, "size0"), ((1, 1), np.float32, "size1"),
               ((2, 1, 4, 4), np.float64, "broadcast"), ((3, 5), np.float32, "odd")]


def _spread(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Matrices whose singular values are well apart."""
    a = rng.standard_normal(shape)
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return np.asarray((u * (1.5 + np.arange(u.shape[-1]))) @ v).astype(dtype)


@dataclass(frozen=True, eq=False)
class QR(_Host):
    """(q, r): x = q r with orthonormal columns q and upper r; ``complete``: q is square."""

    complete: bool = False

    kind = "host"
    function = "qr"

    @property
    def arguments(self) -> tuple[tuple[str, Any], ...]:
        return (("mode", "complete" if self.complete else "reduced"),)

    def infer(self, *types: TensorType) -> TupleType:  # type: ignore[override]
        (x,) = types
        _matrix(self, x, False)
        m, n = x.shape[-2:]
        k = m if self.complete or m <= n else n
        return TupleType((x.with_shape((*x.shape[:-1], k)), x.with_shape((*x.shape[:-2], k, n))))

    def vjp(self, node: Node, ct: Any) -> Cotangents:
        (x,) = node.inputs
        q, r = f.results(node)
        k, n = r.shape[-2:]
        if key(q.shape[-1]) == key(q.shape[-2]) and k > n:
            raise GradientError(f"QR has a gradient in mode reduced; mode complete adds columns to q that {x.type} doesn't determine")
        gq, gr = (c if c is not None else f.zeros_like(v) for c, v in zip(ct, (q, r)))
        if k >= n:
            return (_qr_vjp(q, r, gq, gr),)
        # x = (left, right) with q, r[:, :k] the decomposition of left, and r[:, k:] = q^T right (Roberts and Roberts, 2020)
        left, right = f.split(r, [k, n - k], r.rank - 1)
        g_left, g_right = f.split(gr, [k, n - k], r.rank - 1)
        given = f.split(x, [k, n - k], x.rank - 1)[1]
        first = _qr_vjp(q, left, f.add(gq, f.matmul(given, _mT(g_right))), g_left)
        return (f.concat([first, f.matmul(q, g_right)], x.rank - 1),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = [Sample(cls(), (_spread(rng, shape, dtype),), tags=(tag,)) for shape, dtype, tag in _RECTANGLES]
        return [*out, Sample(cls(True), (_spread(rng, (2, 3), np.float32),))]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad_matrices(cls())


def _qr_vjp(q: Node, r: Node, gq: Node, gr: Node) -> Node:
    """Of a decomposition whose r is square."""
    m = f.sub(f.matmul(r, _mT(gr)), f.matmul(_mT(gq), q))
    m = f.add(f.tril(m), _mT(f.tril(m, -1)))
    return _mT(f.node(TriangularSystem(False), r, _mT(f.add(gq, f.matmul(q, m)))))


def _bad_matrices(op: Op) -> list[BadSample]:
    x = TensorType((3,), float32)
    return [BadSample(op, (x,), ShapeError, r"matrices, got float32\[3\]"), BadSample(op, (x.with_shape((3, 3)).with_dtype(int32),), DTypeError, "float32 or float64")]


@dataclass(frozen=True, eq=False)
class SVD(_Host):
    """(u, s, vh): x = u diag(s) vh, s descending; ``full``: u and vh are square."""

    full: bool = False

    kind = "host"
    function = "svd"

    @property
    def arguments(self) -> tuple[tuple[str, Any], ...]:
        return (("full_matrices", self.full),)

    def infer(self, *types: TensorType) -> TupleType:  # type: ignore[override]
        (x,) = types
        _matrix(self, x, False)
        m, n = x.shape[-2:]
        k = m if m <= n else n
        batch = x.shape[:-2]
        return TupleType((x.with_shape((*batch, m, m if self.full else k)), x.with_shape((*batch, k)), x.with_shape((*batch, n if self.full else k, n))))

    def vjp(self, node: Node, ct: Any) -> Cotangents:
        if self.full and (ct[0] is not None or ct[2] is not None):
            raise GradientError("SVD has a gradient for reduced matrices (full_matrices=False) and for singular values")
        (x,) = node.inputs
        u, s, vh = f.results(f.node(SVD(), x)) if self.full else f.results(node)
        middle = _diag(ct[1]) if ct[1] is not None else f.zeros((*s.shape, s.shape[-1]), s.dtype)
        if ct[0] is None and ct[2] is None:
            return (f.matmul(u, f.matmul(middle, vh)),)
        gu = ct[0] if ct[0] is not None else f.zeros_like(u)
        gv = _mT(ct[2]) if ct[2] is not None else f.zeros_like(_mT(vh))
        v = _mT(vh)
        row, column = f.expand_dims(s, s.rank - 1), f.expand_dims(s, s.rank)
        weights = _reciprocal(f.mul(f.sub(row, column), f.add(row, column)))
        left, right = f.matmul(_mT(u), gu), f.matmul(vh, gv)
        middle = f.add(middle, f.mul(f.mul(weights, f.sub(left, _mT(left))), row))
        middle = f.add(middle, f.mul(column, f.mul(weights, f.sub(right, _mT(right)))))
        inverse = f.div(1.0, row)
        outside = f.sub(gu, f.matmul(u, left))
        beside = f.sub(gv, f.matmul(v, right))
        out = f.matmul(f.matmul(u, middle), vh)
        out = f.add(out, f.matmul(f.mul(outside, inverse), vh))
        return (f.add(out, f.matmul(f.mul(u, inverse), _mT(beside))),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(), (_spread(rng, shape, dtype),), tags=(tag,)) for shape, dtype, tag in _RECTANGLES]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad_matrices(cls())


def _reciprocal(x: Node) -> Node:
    """1 / x, and 0 where x is 0."""
    nothing = f.eq(x, 0.0)
    return f.where(nothing, 0.0, f.div(1.0, f.where(nothing, 1.0, x)))


@dataclass(frozen=True, eq=False)
class Eigh(_Host):
    """(eigenvalues ascending, eigenvectors as columns) of the symmetric part of x."""

    kind = "host"
    function = "eigh"

    def infer(self, *types: TensorType) -> TupleType:  # type: ignore[override]
        (x,) = types
        _matrix(self, x)
        return TupleType((x.with_shape(x.shape[:-1]), x))

    def vjp(self, node: Node, ct: Any) -> Cotangents:
        w, v = f.results(node)
        middle = _diag(ct[0]) if ct[0] is not None else f.zeros_like(v)
        if ct[1] is not None:
            apart = _reciprocal(f.sub(f.expand_dims(w, w.rank - 1), f.expand_dims(w, w.rank)))
            middle = f.add(middle, f.mul(apart, f.matmul(_mT(v), ct[1])))
        g = f.matmul(f.matmul(v, middle), _mT(v))
        return (f.mul(f.add(g, _mT(g)), 0.5),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for shape, dtype, tag in _SQUARES[:-1]:
            q = np.linalg.qr(rng.standard_normal(shape))[0]
            out.append(Sample(cls(), (np.asarray((q * (1.0 + np.arange(shape[-1]))) @ np.swapaxes(q, -1, -2)).astype(dtype),), tags=(tag,)))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad_squares(cls())


@dataclass(frozen=True, eq=False)
class Eig(_Host):
    """Real and imaginary parts of the eigenvalues (..., n), then of the eigenvectors (..., n, n), as columns of length 1."""

    kind = "host"
    function = "eig"
    differentiable = False
    no_gradient = "eigenvectors of a general matrix have no preferred phase"

    def infer(self, *types: TensorType) -> TupleType:  # type: ignore[override]
        (x,) = types
        _matrix(self, x)
        values = x.with_shape(x.shape[:-1])
        return TupleType((values, values, x, x))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(), (rng.standard_normal(shape).astype(dtype),), tags=(tag,)) for shape, dtype, tag in _SQUARES[:-1]]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad_squares(cls())


# -- functions


def _wide(name: str, *xs: Any) -> tuple[list[Node], Any]:
    """The operands in float32 or float64, and the type that results go back to."""
    nodes = f.operands(name, *[f.floating(x) for x in xs])
    back = nodes[0].dtype
    return [f.cast(x, back if back in (float32, float64) else float32) for x in nodes], back


def _square(name: str, x: Node) -> Node:
    if x.rank < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name} needs square matrices, got {x.type}")
    return x if key(x.shape[-1]) == key(x.shape[-2]) else f.reshape(x, (*x.shape[:-1], x.shape[-2]))


def cholesky(x, upper: bool = False) -> Node:
    """The lower L with L L^T = x (its upper transpose where ``upper``), of the symmetric part of x; nan where x is not positive definite."""
    (x,), back = _wide("cholesky", x)
    x = _square("cholesky", x)
    low = f.node(Cholesky(), f.mul(f.add(x, _mT(x)), 0.5))
    return f.cast(_mT(low) if upper else low, back)


def solve_triangular(a, b, lower: bool = False, transposed: bool = False, unit: bool = False) -> Node:
    """X with op(a) X = b for a triangular a (..., n, n); b is (..., n, m), or (..., n): one column per matrix."""
    (a, b), back = _wide("solve_triangular", a, b)
    a = _square("solve_triangular", a)
    a, b, vector = _systems("solve_triangular", a, b)
    x = f.node(TriangularSystem(lower, transposed, unit), a, b)
    return f.cast(f.squeeze(x, (x.rank - 1,)) if vector else x, back)


def _systems(name: str, a: Node, b: Node) -> tuple[Node, Node, bool]:
    """Matrices and right sides of one batch; whether the right sides were vectors."""
    vector = b.rank == a.rank - 1 and b.rank >= 1 and (b.rank == 1 or key(b.shape) == key(a.shape[:-1]))
    if vector:
        b = f.expand_dims(b, b.rank)
    if b.rank < 2 or b.shape[-2] != a.shape[-1]:
        raise ShapeError(f"{name}: a system of {a.type} has no right side {b.type}")
    batch = f.broadcast_shapes(name, a.shape[:-2], b.shape[:-2])
    return f.broadcast_to(a, (*batch, *a.shape[-2:])), f.broadcast_to(b, (*batch, a.shape[-1], b.shape[-1])), vector


def lu_factor(x) -> tuple[Node, Node]:
    """(L below its unit diagonal and U in one matrix, int32 pivots as LAPACK's from 0)."""
    (x,), back = _wide("lu_factor", x)
    lu, _, pivots = f.results(f.node(LU(), _square("lu_factor", x)))
    return f.cast(lu, back), pivots


def solve(a, b) -> Node:
    """X with a X = b for (..., n, n) and (..., n, m), or (..., n): by LU. A singular matrix gives inf or nan."""
    (a, b), back = _wide("solve", a, b)
    a = _square("solve", a)
    lu, order, _ = f.results(f.node(LU(), a))
    lu, b, vector = _systems("solve", lu, b)
    places = f.broadcast_to(f.expand_dims(order, order.rank), (*b.shape[:-2], order.shape[-1], 1))
    b = f.take_along_axis(b, f.broadcast_to(places, b.shape), b.rank - 2)
    x = f.node(TriangularSystem(False), lu, f.node(TriangularSystem(True, False, True), lu, b))
    return f.cast(f.squeeze(x, (x.rank - 1,)) if vector else x, back)


def inv(x) -> Node:
    """The inverse, by LU; inf or nan where there is none."""
    (x,), back = _wide("inv", x)
    x = _square("inv", x)
    return f.cast(solve(x, f.broadcast_to(eye(x.shape[-1], x.dtype), x.shape)), back)


def _factors(name: str, x: Any) -> tuple[Node, Node, Any]:
    """(U's diagonal, the sign of the rows' order, the type to go back to)."""
    (x,), back = _wide(name, x)
    lu, _, pivots = f.results(f.node(LU(), _square(name, x)))
    exchanged = f.ne(pivots, f.iota(pivots.shape, pivots.rank - 1))
    sign = f.prod(f.where(exchanged, f.full(pivots.shape, -1.0, lu.dtype), 1.0), pivots.rank - 1)
    return matrix_diagonal(lu), sign, back


def det(x) -> Node:
    """Determinants (...)."""
    diag, sign, back = _factors("det", x)
    return f.cast(f.mul(f.prod(diag, diag.rank - 1), sign), back)


def slogdet(x) -> tuple[Node, Node]:
    """(sign, log |det x|): 0 and -inf for a singular matrix."""
    diag, sign, back = _factors("slogdet", x)
    sign = f.mul(sign, f.prod(f.sign(diag), diag.rank - 1))
    return f.cast(sign, back), f.cast(f.sum_(f.log(f.abs_(diag)), diag.rank - 1), back)


def cholesky_inverse(x, upper: bool = False) -> Node:
    """The inverse of the matrix whose Cholesky factor is x."""
    (x,), back = _wide("cholesky_inverse", x)
    x = _square("cholesky_inverse", x)
    one = f.broadcast_to(eye(x.shape[-1], x.dtype), x.shape)
    half = f.node(TriangularSystem(not upper, upper), x, one)
    return f.cast(f.matmul(_mT(half), half), back)


def qr(x, mode: str = "reduced") -> tuple[Node, Node]:
    """(q, r) with x = q r; ``mode``: "reduced" or "complete"."""
    if mode not in ("reduced", "complete"):
        raise ArgumentError(f"qr: mode must be 'reduced' or 'complete', is {mode!r}")
    (x,), back = _wide("qr", x)
    q, r = f.results(f.node(QR(mode == "complete"), x))
    return f.cast(q, back), f.cast(r, back)


def svd(x, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """(u, s, vh) with x = u diag(s) vh, singular values descending; s alone where not ``compute_uv``."""
    (x,), back = _wide("svd", x)
    u, s, vh = f.results(f.node(SVD(full_matrices and compute_uv), x))
    return (f.cast(u, back), f.cast(s, back), f.cast(vh, back)) if compute_uv else f.cast(s, back)


def eigh(x) -> tuple[Node, Node]:
    """(eigenvalues ascending, eigenvectors as columns) of the symmetric part of x."""
    (x,), back = _wide("eigh", x)
    w, v = f.results(f.node(Eigh(), _square("eigh", x)))
    return f.cast(w, back), f.cast(v, back)


def eig(x) -> tuple[tuple[Node, Node], tuple[Node, Node]]:
    """(eigenvalues, eigenvectors as columns), each a pair (real, imaginary)."""
    (x,), _ = _wide("eig", x)
    a, b, c, d = f.results(f.node(Eig(), _square("eig", x)))
    return (a, b), (c, d)


def pinv(x, rcond: float | None = None) -> Node:
    """The pseudo-inverse; singular values below ``rcond`` (eps * max(m, n)) times the greatest count as 0."""
    (x,), back = _wide("pinv", x)
    u, s, vh = f.results(f.node(SVD(), x))
    inverse = _reciprocal(f.where(_kept(s, x, rcond), s, 0.0))
    return f.cast(f.matmul(f.mul(_mT(vh), f.expand_dims(inverse, inverse.rank - 1)), _mT(u)), back)


def _kept(s: Node, x: Node, rcond: float | None) -> Node:
    m, n = x.shape[-2:]
    if rcond is None or rcond < 0:
        rcond = float(np.finfo(x.dtype.np).eps) * (int(m) if m >= n else int(n))
    return f.gt(s, f.mul(f.max_(s, s.rank - 1, True), rcond))


def lstsq(a, b, rcond: float | None = None) -> Node:
    """x of least norm that minimises |a x - b|, for a (m, n) and b (m,) or (m, k)."""
    (a, b), back = _wide("lstsq", a, b)
    if a.rank != 2 or b.rank not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(f"lstsq needs a (m, n) and b (m,) or (m, k), got {a.type} and {b.type}")
    right = f.expand_dims(b, 1) if b.rank == 1 else b
    x = f.matmul(pinv(a, rcond), right)
    return f.cast(f.squeeze(x, (1,)) if b.rank == 1 else x, back)


def matrix_rank(x, tol: float | None = None) -> Node:
    """int32: how many singular values are greater than ``tol`` (None: eps * max(m, n) times the greatest)."""
    (x,), _ = _wide("matrix_rank", x)
    s = f.results(f.node(SVD(), x))[1]
    return f.sum_(f.cast(_kept(s, x, None) if tol is None else f.gt(s, tol), int32), s.rank - 1)


def matrix_power(x, n: int) -> Node:
    """x multiplied by itself n times (n < 0: its inverse), by squaring."""
    x = f.floating(x) if n < 0 else f.constant(x)
    x = _square("matrix_power", x)
    if n < 0:
        x, n = inv(x), -n
    out: Node | None = None
    while n:
        if n & 1:
            out = x if out is None else f.matmul(out, x)
        n >>= 1
        x = f.matmul(x, x) if n else x
    return f.broadcast_to(eye(x.shape[-1], x.dtype), x.shape) if out is None else out


def norm(x, ord: Any = None, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """Norms of vectors along one axis (``ord`` None, a number, inf, -inf) or of matrices along two ("fro", "nuc", 1, -1, 2, -2, inf, -inf), as NumPy's."""
    x = f.floating(x)
    if axis is None:
        if ord is None:
            axes = tuple(range(x.rank))
            return f.sqrt(f.sum_(f.square(x), axes, keepdims))
        if x.rank not in (1, 2):
            raise ArgumentError(f"norm: ord={ord!r} needs an axis for a tensor of rank {x.rank}")
    axes = f.axes_tuple("norm", axis, x.rank)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ArgumentError(f"norm: ord={ord!r} along axes {axes}; give one axis (vectors) or two (matrices)")
    if ord is None or ord == "fro":
        return f.sqrt(f.sum_(f.square(x), axes, keepdims))
    if ord in (1, -1, float("inf"), -float("inf")):
        inner, outer = axes if abs(ord) == 1 else axes[::-1]
        total = f.sum_(f.abs_(x), inner, True)
        out = (f.max_ if ord > 0 else f.min_)(total, outer, True)
        return out if keepdims else f.squeeze(out, tuple(sorted(axes)))
    if ord not in (2, -2, "nuc"):
        raise ArgumentError(f"norm: matrices have no norm {ord!r}; choose 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")
    kept = [i for i in range(x.rank) if i not in axes]
    s = svd(f.transpose(x, [*kept, *axes]), False, False)
    fold = f.sum_ if ord == "nuc" else f.max_ if ord == 2 else f.min_
    out = fold(s, s.rank - 1)
    return f.expand_dims(out, tuple(sorted(axes))) if keepdims else out


def _vector_norm(x: Node, ord: Any, axis: int, keepdims: bool) -> Node:
    if ord is None or ord == 2:
        return f.sqrt(f.sum_(f.square(x), axis, keepdims))
    if isinstance(ord, str):
        raise ArgumentError(f"norm: vectors have no norm {ord!r}; give a number, or two axes")
    size = f.abs_(x)
    if ord == float("inf"):
        return f.max_(size, axis, keepdims)
    if ord == -float("inf"):
        return f.min_(size, axis, keepdims)
    if ord == 0:
        return f.sum_(f.cast(f.ne(x, 0), x.dtype), axis, keepdims)
    if ord == 1:
        return f.sum_(size, axis, keepdims)
    return f.power(f.sum_(f.power(size, float(ord)), axis, keepdims), 1.0 / ord)
