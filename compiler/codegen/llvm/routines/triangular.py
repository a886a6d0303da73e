"""Triangular systems by substitution: the right side's columns are vectors, a row of the matrix is read element by element.

A work unit is a block of columns of one system; the columns of X that are done are read back from the result.
"""

from __future__ import annotations

from .....runtime.dim import ceil_div
from ....kernel.routine import TriangularSolve
from ....target import Target
from ..builder import Module, Value, const
from ..loops import Emitted
from .vectors import Vectors

_WIDE = 4  # vectors of a block
_ZERO = const("i64", 0)
_ONE = const("i64", 1)


def emit_triangular(routine: TriangularSolve, target: Target, module: Module, symbol: str) -> Emitted:
    v = Vectors(routine, target, module, symbol)
    b, dtype = v.b, routine.buffers[0].dtype
    _, n, m = v.sizes
    block = _WIDE * v.lanes(dtype)
    with b.loop(v.em.begin, v.em.end, hint="unit") as unit:
        blocks = b.binary("udiv", b.add(m, const("i64", block - 1)), const("i64", block))
        batch, part = b.binary("udiv", unit.index, blocks), b.binary("urem", unit.index, blocks)
        start = b.mul(part, const("i64", block))
        matrix = v.at(v.pointers[0], b.mul(batch, b.mul(n, n)), dtype)
        at = b.add(b.mul(batch, b.mul(n, m)), start)
        right, out = (v.at(p, at, dtype) for p in v.pointers[1:])
        length = b.intrinsic("llvm.smin", "i64", [const("i64", block), b.sub(m, start)])

        def columns(first: Value, width: int, mask: Value | None, right: Value = right, out: Value = out, matrix: Value = matrix) -> None:
            _substitute(routine, v, matrix, v.at(right, first, dtype), v.at(out, first, dtype), width, mask)

        v.run(length, v.lanes(dtype), columns, _WIDE)
    b.ret()
    b.finish()
    return Emitted(routine.sizes[0] * ceil_div(routine.sizes[2], block), 0)


def _substitute(r: TriangularSolve, v: Vectors, matrix: Value, right: Value, out: Value, width: int, mask: Value | None) -> None:
    b, dtype = v.b, r.buffers[0].dtype
    _, n, m = v.sizes
    forward = r.lower != r.transposed
    with b.loop(_ZERO, n, hint="row") as row:
        i = row.index if forward else b.sub(b.sub(n, _ONE), row.index)

        def element(k: Value, i: Value = i) -> Value:
            at = b.add(b.mul(k, n), i) if r.transposed else b.add(b.mul(i, n), k)
            return b.splat(v.load(v.at(matrix, at, dtype), dtype), width)

        x = v.load(v.at(right, b.mul(i, m), dtype), dtype, width, mask)
        with b.loop(_ZERO if forward else b.add(i, _ONE), i if forward else n, state=[x], hint="done") as loop:
            known = v.load(v.at(out, b.mul(loop.index, m), dtype), dtype, width, mask)
            loop.next([b.fma(b.fneg(element(loop.index)), known, loop.state[0])])
        x = loop.results[0]
        v.store(x if r.unit else b.fdiv(x, element(i)), v.at(out, b.mul(i, m), dtype), dtype, mask)
