"""Vectors of neighbouring elements in routines: loads and stores with or without a mask, and loops over a run of elements."""

from __future__ import annotations

from collections.abc import Callable

from .....runtime.dtype import DType
from ....kernel.routine import Routine
from ....target import Target
from ..builder import Module, Value, const, iota, vector
from ..emitter import LLVMEmitter
from ..scalars import register_type


class Vectors:
    """The state of one routine's function: its emitter (``em``), builder (``b``), sizes and buffers' pointers as values."""

    def __init__(self, routine: Routine, target: Target, module: Module, symbol: str):
        self.em = LLVMEmitter(module, symbol, routine.buffers, target)
        self.b = self.em.b
        self.masks = target.masks
        self.bytes = target.vector_bytes
        self.sizes = [self.em.size(n) for n in routine.sizes]
        self.pointers = [self.em.base(b.name) for b in routine.buffers]

    def lanes(self, dtype: DType) -> int:
        """Elements in a register: 16-bit floats are held as float."""
        return max(2, self.bytes // max(dtype.itemsize, 4 if dtype.is_float else 1))

    def at(self, pointer: Value, offset: Value, dtype: DType) -> Value:
        return self.b.gep(pointer, offset, self.em.scalars.memory_type(dtype))

    def load(self, pointer: Value, dtype: DType, n: int = 1, mask: Value | None = None) -> Value:
        """``n`` neighbours in register form; 0 where ``mask`` fails."""
        t = vector(self.em.scalars.memory_type(dtype), n)
        x = self.b.load(pointer, t) if mask is None else self.b.masked_load(pointer, mask, const(t, 0))
        return self.em.scalars.from_memory(x, dtype)

    def store(self, value: Value, pointer: Value, dtype: DType, mask: Value | None = None) -> None:
        raw = self.em.scalars.to_memory(value, dtype)
        if mask is None:
            self.b.store(raw, pointer)
        else:
            self.b.masked_store(raw, pointer, mask)

    def below(self, left: Value, n: int) -> Value:
        """Lanes of ``n`` whose number is less than ``left``."""
        t = vector("i64", n)
        return self.b.icmp("slt", iota(t), self.b.splat(left, n))

    def run(self, length: Value, n: int, body: Callable[[Value, int, Value | None], None], wide: int = 1) -> None:
        """``body(first, lanes, mask)`` for all of [0, length): by ``wide`` vectors at a time, by vectors, then the rest under a mask, or one by one."""
        b, at = self.b, const("i64", 0)
        for width in dict.fromkeys((wide * n, n)):
            stop = b.add(at, b.and_(b.sub(length, at), const("i64", -width)))
            with b.loop(at, stop, width) as loop:
                body(loop.index, width, None)
            at = stop
        if self.masks:
            with b.loop(at, length, n) as loop:
                body(loop.index, n, self.below(b.sub(length, loop.index), n))
        else:
            with b.loop(at, length) as loop:
                body(loop.index, 1, None)

    def axpy(self, scale: Value, x: Value, y: Value, length: Value, dtype: DType) -> None:
        """y -= scale * x, over ``length`` elements."""
        negative = self.b.fneg(scale)

        def body(i: Value, n: int, mask: Value | None) -> None:
            p = self.at(y, i, dtype)
            value = self.b.fma(self.b.splat(negative, n), self.load(self.at(x, i, dtype), dtype, n, mask), self.load(p, dtype, n, mask))
            self.store(value, p, dtype, mask)

        self.run(length, self.lanes(dtype), body, 4)

    def dot(self, x: Value, y: Value, length: Value, dtype: DType) -> Value:
        """The sum of x * y over ``length`` elements: four vector chains, joined in a fixed order."""
        b, n, t = self.b, self.lanes(dtype), register_type(dtype)
        at = const("i64", 0)
        total: Value | None = None
        for width in (4 * n, n):
            first = const(vector(t, width), 0)
            if total is not None:
                halves = [b.shuffle(total, None, range(i, i + n)) for i in range(0, 4 * n, n)]
                first = b.fadd(b.fadd(halves[0], halves[1]), b.fadd(halves[2], halves[3]))
            stop = b.add(at, b.and_(b.sub(length, at), const("i64", -width)))
            with b.loop(at, stop, width, state=[first]) as loop:
                i = loop.index
                loop.next([b.fma(self.load(self.at(x, i, dtype), dtype, width), self.load(self.at(y, i, dtype), dtype, width), loop.state[0])])
            total, at = loop.results[0], stop
        assert total is not None
        if self.masks:
            with b.loop(at, length, n, state=[total]) as loop:
                i, mask = loop.index, self.below(b.sub(length, loop.index), n)
                loop.next([b.fma(self.load(self.at(x, i, dtype), dtype, n, mask), self.load(self.at(y, i, dtype), dtype, n, mask), loop.state[0])])
            total, at = loop.results[0], length
        while n > 1:
            n //= 2
            total = b.fadd(b.shuffle(total, None, range(n)), b.shuffle(total, None, range(n, 2 * n)))
        if self.masks:
            return total
        with b.loop(at, length, state=[total]) as loop:
            i = loop.index
            loop.next([b.fma(self.load(self.at(x, i, dtype), dtype), self.load(self.at(y, i, dtype), dtype), loop.state[0])])
        return loop.results[0]


