"""Factorisations of small and middling matrices, one matrix per work unit, row-major.

Cholesky by rows (Crout's order: every inner loop is a dot product of two contiguous rows); LU by columns with partial pivoting (every inner
loop subtracts a multiple of one contiguous row from another). Golub and Van Loan, "Matrix Computations", 4.2 and 3.4.
"""

from __future__ import annotations

from ....kernel.routine import Factor
from ....target import Target
from ..builder import Module, Value, const
from ..loops import Emitted
from ..scalars import register_type
from .vectors import Vectors

_ZERO = const("i64", 0)
_ONE = const("i64", 1)


def emit_factor(routine: Factor, target: Target, module: Module, symbol: str) -> Emitted:
    v = Vectors(routine, target, module, symbol)
    form = _Cholesky if routine.form == "cholesky" else _LU
    with v.b.loop(v.em.begin, v.em.end, hint="matrix") as matrix:
        form(routine, v, matrix.index).emit()
    v.b.ret()
    v.b.finish()
    return Emitted(routine.sizes[0], 0)


class _Matrix:
    def __init__(self, routine: Factor, v: Vectors, number: Value):
        self.v, self.b, self.n = v, v.b, v.sizes[1]
        self.dtype = routine.buffers[0].dtype
        self.type = register_type(self.dtype)
        start = v.b.mul(number, v.b.mul(self.n, self.n))
        self.source, self.out = (v.at(p, start, self.dtype) for p in v.pointers[:2])
        self.order, self.pivots = ([v.b.gep(p, v.b.mul(number, self.n), "i32") for p in v.pointers[2:]] or v.pointers)

    def row(self, i: Value) -> Value:
        return self.v.at(self.out, self.b.mul(i, self.n), self.dtype)

    def element(self, i: Value, j: Value) -> Value:
        return self.v.at(self.row(i), j, self.dtype)


class _Cholesky(_Matrix):
    def emit(self) -> None:
        b, v = self.b, self.v
        with b.loop(_ZERO, self.n, hint="row") as row:
            i = row.index
            mine = self.row(i)
            given = v.at(self.source, b.mul(i, self.n), self.dtype)
            with b.loop(_ZERO, i, hint="column") as column:
                j = column.index
                rest = b.fsub(v.load(v.at(given, j, self.dtype), self.dtype), v.dot(mine, self.row(j), j, self.dtype))
                v.store(b.fdiv(rest, v.load(self.element(j, j), self.dtype)), v.at(mine, j, self.dtype), self.dtype)
            rest = b.fsub(v.load(v.at(given, i, self.dtype), self.dtype), v.dot(mine, mine, i, self.dtype))
            v.store(b.intrinsic("llvm.sqrt", self.type, [rest]), v.at(mine, i, self.dtype), self.dtype)
            with b.loop(b.add(i, _ONE), self.n, hint="above") as column:
                v.store(const(self.type, 0), v.at(mine, column.index, self.dtype), self.dtype)


class _LU(_Matrix):
    def emit(self) -> None:
        b, v, dtype = self.b, self.v, self.dtype

        def copy(i: Value, n: int, mask: Value | None) -> None:
            v.store(v.load(v.at(self.source, i, dtype), dtype, n, mask), v.at(self.out, i, dtype), dtype, mask)

        v.run(b.mul(self.n, self.n), v.lanes(dtype), copy)
        with b.loop(_ZERO, self.n, hint="number") as loop:
            b.store(b.convert("trunc", loop.index, "i32"), b.gep(self.order, loop.index, "i32"))
        with b.loop(_ZERO, self.n, hint="step") as step:
            k = step.index
            with b.loop(k, self.n, state=[const(self.type, -1.0), k], nonempty=True, hint="pivot") as loop:
                size = b.intrinsic("llvm.fabs", self.type, [v.load(self.element(loop.index, k), dtype)])
                more = b.fcmp("ogt", size, loop.state[0])
                loop.next([b.select(more, size, loop.state[0]), b.select(more, loop.index, loop.state[1])])
            p = loop.results[1]
            b.store(b.convert("trunc", p, "i32"), b.gep(self.pivots, k, "i32"))
            with b.when(b.icmp("ne", p, k), "swap"):
                self._swap(k, p)
            pivot = v.load(self.element(k, k), dtype)
            singular = b.fcmp("oeq", pivot, const(self.type, 0))
            after = b.add(k, _ONE)
            right = b.sub(self.n, after)
            with b.loop(after, self.n, hint="below") as loop:
                at = self.element(loop.index, k)
                x = v.load(at, dtype)
                scale = b.select(singular, x, b.fdiv(x, pivot))
                v.store(scale, at, dtype)
                v.axpy(scale, self.element(k, after), self.element(loop.index, after), right, dtype)

    def _swap(self, k: Value, p: Value) -> None:
        b, v, dtype = self.b, self.v, self.dtype
        one, two = self.row(k), self.row(p)

        def body(i: Value, n: int, mask: Value | None) -> None:
            x, y = v.at(one, i, dtype), v.at(two, i, dtype)
            held, other = v.load(x, dtype, n, mask), v.load(y, dtype, n, mask)
            v.store(other, x, dtype, mask)
            v.store(held, y, dtype, mask)

        v.run(self.n, v.lanes(dtype), body)
        a, c = b.gep(self.order, k, "i32"), b.gep(self.order, p, "i32")
        held, other = b.load(a, "i32"), b.load(c, "i32")
        b.store(other, a)
        b.store(held, c)
