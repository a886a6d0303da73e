"""Running folds: one state per vector of neighbouring columns; along contiguous rows a scan within the register.

The scan is Hillis and Steele's ("Data parallel algorithms", 1986): log2(lanes) shifted folds; from vector to vector only the fold of the
totals is carried, so that its latency is paid once per vector. Rows and blocks of columns are the work units.
"""

from __future__ import annotations

from math import log

from .....runtime.dim import ceil_div
from .....runtime.dtype import float32
from ....kernel import scalar_ops as s
from ....kernel.expr import Const, Expr, Where, op
from ....kernel.routine import Prefix, neutral
from ....target import Target
from ...emit import placeholder
from ..builder import Module, Value, const, lanes, vector
from ..emitter import Local
from ..loops import Emitted
from ..scalars import register_type
from .vectors import Vectors


def emit_prefix(routine: Prefix, target: Target, module: Module, symbol: str) -> Emitted:
    return _Prefix(routine, target, module, symbol).emit()


class _Prefix:
    def __init__(self, routine: Prefix, target: Target, module: Module, symbol: str):
        self.r, self.v = routine, Vectors(routine, target, module, symbol)
        self.b = self.v.b
        self.dtype = routine.buffers[0].dtype
        self.wide = float32 if self.dtype.is_float and self.dtype.itemsize == 2 else self.dtype
        self.width = self.v.lanes(self.dtype)
        self.outer, self.n, self.inner = self.v.sizes

    def emit(self) -> Emitted:
        outer, _, inner = self.r.sizes
        units: int = outer
        if self.r.contiguous:
            with self.b.loop(self.v.em.begin, self.v.em.end, hint="row") as row:
                self._row(self.b.mul(row.index, self.n))
        else:
            units = outer * ceil_div(inner, self.width)
            with self.b.loop(self.v.em.begin, self.v.em.end, hint="unit") as unit:
                self._columns(unit.index)
        self.b.ret()
        self.b.finish()
        return Emitted(units, 0)

    def _neutral(self, n: int) -> Value:
        return const(vector(register_type(self.dtype), n), neutral(self.r.fold, self.dtype.np))

    def _fold(self, state: Value, xs: list[Value]) -> Value:
        em = self.v.em
        names = [placeholder(f"s{i}", self.wide) for i in range(1 + len(xs))]
        pairs = list(zip(names, [state, *xs]))
        em.locals.update({e.stage: Local(em.level, [v]) for e, v in pairs})
        return em.walk.apply([_expression(self.r.fold, names)], pairs)[0]

    def _load(self, offset: Value, n: int, mask: Value | None = None) -> list[Value]:
        return [self.v.load(self.v.at(p, offset, self.dtype), self.dtype, n, mask) for p in self.v.pointers[:-1]]

    def _store(self, value: Value, offset: Value, mask: Value | None = None) -> None:
        self.v.store(value, self.v.at(self.v.pointers[-1], offset, self.dtype), self.dtype, mask)

    def _place(self, i: Value, n: int = 1) -> Value:
        """The position of step i; of the n steps from i on, the first in memory."""
        return self.b.sub(self.b.sub(self.n, const("i64", n)), i) if self.r.reverse else i

    def _columns(self, unit: Value) -> None:
        b, width = self.b, self.width
        blocks = b.binary("udiv", b.add(self.inner, const("i64", width - 1)), const("i64", width))
        outer, block = b.binary("udiv", unit, blocks), b.binary("urem", unit, blocks)
        start = b.mul(block, const("i64", width))
        base, left = b.add(b.mul(b.mul(outer, self.n), self.inner), start), b.sub(self.inner, start)
        whole = b.icmp("sge", left, const("i64", width))
        with b.when(whole, "whole"):
            self._steps(base, self.inner, const("i64", 0), self._neutral(width), None)
        with b.when(b.not_(whole), "part"):
            if self.v.masks:
                self._steps(base, self.inner, const("i64", 0), self._neutral(width), self.v.below(left, width))
            else:
                with b.loop(const("i64", 0), left, hint="column") as column:
                    self._steps(b.add(base, column.index), self.inner, const("i64", 0), self._neutral(1), None)

    def _steps(self, base: Value, stride: Value, first: Value, state: Value, mask: Value | None) -> None:
        """One element (or vector of columns) after the other, from step ``first`` on."""
        b = self.b
        with b.loop(first, self.n, state=[state], hint="step") as loop:
            at = b.add(base, b.mul(self._place(loop.index), stride))
            new = self._fold(loop.state[0], self._load(at, lanes(state.type), mask))
            self._store(loop.state[0] if self.r.exclusive else new, at, mask)
            loop.next([new])

    def _row(self, base: Value) -> None:
        b, width = self.b, self.width
        one = const("i64", 1)
        if self.r.fold == "affine":
            self._steps(base, one, const("i64", 0), self._neutral(1), None)
            return
        stop = b.and_(self.n, const("i64", -width))
        backwards = range(width - 1, -1, -1)
        with b.loop(const("i64", 0), stop, width, state=[self._neutral(width)], hint="vector") as loop:
            carry = loop.state[0]
            at = b.add(base, self._place(loop.index, width))
            (x,) = self._load(at, width)
            if self.r.reverse:
                x = b.shuffle(x, None, backwards)
            step = 1
            while step < width:
                shifted = b.shuffle(x, self._neutral(width), [width] * step + list(range(width - step)))
                x = self._fold(shifted, [x])
                step *= 2
            y = self._fold(carry, [x])
            out = b.shuffle(y, carry, [width, *range(width - 1)]) if self.r.exclusive else y
            self._store(b.shuffle(out, None, backwards) if self.r.reverse else out, at)
            loop.next([self._fold(carry, [b.splat(b.extract(x, width - 1), width)])])
        self._steps(base, one, stop, b.extract(loop.results[0], 0), None)


def _expression(fold: str, names: list) -> Expr:
    a, b = names[0], names[-1]
    if fold == "affine":
        return op(s.add, op(s.mul, names[1], a), b)
    if fold == "logsumexp":
        high = op(s.maximum, a, b)
        rest = op(s.log1p, op(s.exp, op(s.neg, op(s.abs_, op(s.sub, a, b)))))
        return op(s.add, high, Where(op(s.eq, a, b), Const(log(2), a.dtype), rest))
    return op({"sum": s.add, "prod": s.mul, "max": s.maximum, "min": s.minimum}[fold], a, b)
