"""Sorting: the positions of a row's elements in order, stable, by keys that compare as unsigned integers.

Three ways, by the sizes of the call: up to ``SMALL`` elements each one's rank is counted (vectors of compares, no branches); a few out of many are
kept in a sorted list that whole vectors are compared with; all else is a radix sort from the least byte on (Knuth, volume 3, 5.2.5), which
skips bytes that are the same everywhere. Rows are the work units.
"""

from __future__ import annotations

from .....runtime.dtype import DType
from ....kernel.routine import Order
from ....target import Target
from ..builder import Module, Value, const, iota, lanes, like, vector
from ..loops import Emitted
from .vectors import Vectors

SMALL = 96
FEW = 32
_PAD = 64  # elements that vectors may run over the end of the scratch arrays
_ZERO = const("i64", 0)
_ONE = const("i64", 1)
_INFINITY = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x7C00, "bfloat16": 0x7F80}


def emit_order(routine: Order, target: Target, module: Module, symbol: str) -> Emitted:
    return _Order(routine, target, module, symbol).emit()


class _Order:
    def __init__(self, routine: Order, target: Target, module: Module, symbol: str):
        self.r, self.v = routine, Vectors(routine, target, module, symbol)
        self.b = self.v.b
        self.dtype: DType = routine.buffers[0].dtype
        self.raw = f"i{8 * self.dtype.itemsize}"
        self.key = "i64" if self.dtype.itemsize == 8 else "i32"
        self.width = self.v.bytes // (8 if self.key == "i64" else 4)
        self.outer, self.n, self.inner, self.k = self.v.sizes
        self.source, self.target = self.v.pointers

    def emit(self) -> Emitted:
        b, em = self.b, self.v.em
        outer, n, inner, _ = self.r.sizes
        size = 8 if self.key == "i64" else 4
        table = 1024 * self.dtype.itemsize
        room = b.add(self.n, const("i64", _PAD))
        self.table = em.scratch(0)
        self.keys = em.scratch(table)
        self.other_keys = b.gep(self.keys, room, self.key)
        self.places = b.gep(self.other_keys, room, self.key)
        self.other_places = b.gep(self.places, room, "i32")
        small = b.icmp("sle", self.n, const("i64", SMALL))
        few = b.and_(b.not_(small), b.icmp("sle", self.k, const("i64", FEW)))
        many = b.not_(b.or_(small, few))
        with b.loop(em.begin, em.end, hint="row") as row:
            o, i = b.binary("udiv", row.index, self.inner), b.binary("urem", row.index, self.inner)
            self.first = b.add(b.mul(b.mul(o, self.n), self.inner), i)
            self.out = b.add(b.mul(b.mul(o, self.k), self.inner), i)
            self._fill()
            with b.when(small, "small"):
                self._rank()
            with b.when(few, "few"):
                self._select()
            with b.when(many, "many"):
                self._radix()
        b.ret()
        b.finish()
        return Emitted(outer * inner, table + 2 * (n + _PAD) * (size + 4))

    # -- keys

    def _fill(self) -> None:
        """The row's keys, in order, into the scratch."""
        b = self.b
        stop = _ZERO
        if self.r.contiguous:
            stop = b.and_(self.n, const("i64", -self.width))
            with b.loop(_ZERO, stop, self.width, hint="key") as loop:
                raw = b.load(b.gep(self.source, b.add(self.first, loop.index), self.raw), vector(self.raw, self.width))
                b.store(self._key(raw), b.gep(self.keys, loop.index, self.key))
        with b.loop(stop, self.n, hint="key") as loop:
            raw = b.load(b.gep(self.source, b.add(self.first, b.mul(loop.index, self.inner)), self.raw), self.raw)
            b.store(self._key(raw), b.gep(self.keys, loop.index, self.key))

    def _key(self, raw: Value) -> Value:
        """Unsigned integers that compare as the elements do: all nans are one, and both zeros."""
        b = self.b
        sign = const(raw.type, 1 << (8 * self.dtype.itemsize - 1))
        key = raw
        if self.dtype.is_float:
            size = b.and_(raw, const(raw.type, (1 << (8 * self.dtype.itemsize - 1)) - 1))
            key = b.select(b.icmp("slt", raw, const(raw.type, 0)), b.not_(raw), b.or_(raw, sign))
            key = b.select(b.icmp("eq", size, const(raw.type, 0)), sign, key)
            key = b.select(b.icmp("ugt", size, const(raw.type, _INFINITY[self.dtype.name])), const(raw.type, -1), key)
        elif self.dtype.kind == "i":
            key = b.xor(raw, sign)
        return b.convert("zext", b.not_(key) if self.r.descending else key, self.key)

    def _put(self, rank: Value, place: Value) -> None:
        self.b.store(place, self.b.gep(self.target, self.b.add(self.out, self.b.mul(rank, self.inner)), "i32"))

    # -- three ways

    def _rank(self) -> None:
        b, width = self.b, self.width
        t = vector(self.key, width)
        with b.loop(_ZERO, self.n, width, hint="block") as block:
            mine = b.load(b.gep(self.keys, block.index, self.key), t)
            numbers = b.binary("add", iota(t), b.splat(b.convert("trunc", block.index, self.key), width))
            with b.loop(_ZERO, self.n, state=[const(t, 0)], hint="against") as loop:
                theirs = b.splat(b.load(b.gep(self.keys, loop.index, self.key), self.key), width)
                earlier = b.icmp("ult", b.splat(b.convert("trunc", loop.index, self.key), width), numbers)
                before = b.or_(b.icmp("ult", theirs, mine), b.and_(b.icmp("eq", theirs, mine), earlier))
                loop.next([b.binary("add", loop.state[0], b.convert("zext", before, self.key))])
            b.store(loop.results[0], b.gep(self.other_keys, block.index, self.key))
        with b.loop(_ZERO, self.n, hint="place") as loop:
            rank = b.convert("zext", b.load(b.gep(self.other_keys, loop.index, self.key), self.key), "i64")
            with b.when(b.icmp("slt", rank, self.k), "kept"):
                self._put(rank, b.convert("trunc", loop.index, "i32"))

    def _insert(self, key: Value, place: Value, count: Value) -> tuple[Value, Value]:
        """Into the sorted list of ``count``, after what equals it; gives what falls out at the end."""
        b = self.b
        with b.loop(_ZERO, count, state=[key, place, const("i1", 0)], hint="list") as loop:
            p, q = b.gep(self.other_keys, loop.index, self.key), b.gep(self.other_places, loop.index, "i32")
            held, where = b.load(p, self.key), b.load(q, "i32")
            first = b.or_(loop.state[2], b.icmp("ult", loop.state[0], held))  # what was moved stays before its equals
            b.store(b.select(first, loop.state[0], held), p)
            b.store(b.select(first, loop.state[1], where), q)
            loop.next([b.select(first, held, loop.state[0]), b.select(first, where, loop.state[1]), first])
        return loop.results[0], loop.results[1]

    def _select(self) -> None:
        b, width = self.b, self.width
        with b.loop(_ZERO, self.k, hint="head") as loop:
            key = b.load(b.gep(self.keys, loop.index, self.key), self.key)
            last = self._insert(key, b.convert("trunc", loop.index, "i32"), loop.index)
            b.store(last[0], b.gep(self.other_keys, loop.index, self.key))
            b.store(last[1], b.gep(self.other_places, loop.index, "i32"))
        worst = b.gep(self.other_keys, b.sub(self.k, _ONE), self.key)
        # k = 0 keeps nothing and has no worst key
        with b.loop(b.select(b.icmp("eq", self.k, _ZERO), self.n, self.k), self.n, width, hint="block") as block:
            some = b.load(b.gep(self.keys, block.index, self.key), vector(self.key, width))
            better = b.any(b.icmp("ult", some, b.splat(b.load(worst, self.key), width)))
            with b.when(better, "better"):
                end = b.intrinsic("llvm.smin", "i64", [b.add(block.index, const("i64", width)), self.n])
                with b.loop(block.index, end, hint="one") as one:
                    key = b.load(b.gep(self.keys, one.index, self.key), self.key)
                    with b.when(b.icmp("ult", key, b.load(worst, self.key)), "kept"):
                        self._insert(key, b.convert("trunc", one.index, "i32"), self.k)
        self._give(self.other_places)

    def _radix(self) -> None:
        b, digits = self.b, self.dtype.itemsize
        wide = vector("i32", self.v.bytes // 4)
        with b.loop(_ZERO, const("i64", 256 * digits), lanes(wide), hint="clear") as loop:
            b.store(const(wide, 0), b.gep(self.table, loop.index, "i32"))
        with b.loop(_ZERO, self.n, hint="count") as loop:
            key = b.load(b.gep(self.keys, loop.index, self.key), self.key)
            b.store(b.convert("trunc", loop.index, "i32"), b.gep(self.places, loop.index, "i32"))
            for d in range(digits):
                p = b.gep(self.table, b.add(self._digit(key, d), const("i64", 256 * d)), "i32")
                b.store(b.binary("add", b.load(p, "i32"), const("i32", 1)), p)
        state = [self.keys, self.places, self.other_keys, self.other_places]
        for d in range(digits):
            state = self._pass(d, state)
        self._give(state[1])

    def _digit(self, key: Value, d: int) -> Value:
        b = self.b
        return b.convert("zext", b.convert("trunc", b.binary("lshr", key, const(like(key.type, self.key), 8 * d)), "i8"), "i64")

    def _pass(self, d: int, state: list[Value]) -> list[Value]:
        b = self.b
        keys, places, to_keys, to_places = state
        table = b.gep(self.table, const("i64", 256 * d), "i32")
        first = b.load(b.gep(table, self._digit(b.load(keys, self.key), d), "i32"), "i32")

        def scatter() -> list[Value]:
            with b.loop(_ZERO, const("i64", 256), state=[const("i32", 0)], hint="start") as loop:
                p = b.gep(table, loop.index, "i32")
                count = b.load(p, "i32")
                b.store(loop.state[0], p)
                loop.next([b.binary("add", loop.state[0], count)])
            with b.loop(_ZERO, self.n, hint="move") as loop:
                key = b.load(b.gep(keys, loop.index, self.key), self.key)
                p = b.gep(table, self._digit(key, d), "i32")
                to = b.load(p, "i32")
                b.store(b.binary("add", to, const("i32", 1)), p)
                to = b.convert("zext", to, "i64")
                b.store(key, b.gep(to_keys, to, self.key))
                b.store(b.load(b.gep(places, loop.index, "i32"), "i32"), b.gep(to_places, to, "i32"))
            return [to_keys, to_places, keys, places]

        return b.choose(b.icmp("ne", b.convert("zext", first, "i64"), self.n), scatter, state, "pass")

    def _give(self, places: Value) -> None:
        b = self.b
        with b.loop(_ZERO, self.k, hint="give") as loop:
            self._put(loop.index, b.load(b.gep(places, loop.index, "i32"), "i32"))
