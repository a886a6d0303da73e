"""What both passes of attention are made of: register tiles over packed scratch, transposed packing, rows of scores.

Scores lie in scratch as [query][key], lanes along keys, so a bias or mask is read as it is stored. Keys (and in the backward pass values) are
packed transposed, [panel][depth][columns], by register transposes; the left operand of every product is a tile in scratch whose strides are
constants, so a register tile needs one pointer for it, whatever its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....runtime.dim import ceil_div
from ....runtime.dtype import DType
from ...kernel.attention import MASKED, Attend
from ...schedule.attention import AttentionSchedule
from ...target import Target
from .builder import Module, Value, const, iota, lanes, size_of, vector
from .emitter import LLVMEmitter
from .scalars import register_type

INF = float("inf")


class Tiles:
    """Emits pieces at the builder's cursor. Offsets and strides are in elements of the compute type unless said."""

    def __init__(self, form: Attend, schedule: AttentionSchedule, target: Target, module: Module, symbol: str):
        self.form, self.schedule = form, schedule
        self.em = LLVMEmitter(module, symbol, form.buffers, target)
        self.b = self.em.b
        self.dtype: DType = form.buffers[0].dtype
        self.type = register_type(self.dtype)
        self.lanes = schedule.lanes
        self.vec = vector(self.type, self.lanes)
        self.names = [b.name for b in form.buffers]
        size = self.em.size
        self.batch, self.queries, self.keys, self.heads, self.groups, self.offset = (size(n) for n in form.sizes)
        self.depth, self.width = form.depth, form.width
        self.depth_pad, self.width_pad = (ceil_div(n, self.lanes) * self.lanes for n in (form.depth, form.width))
        self.taken = 0  # bytes of scratch given out
        self.fill = MASKED if form.empty == "uniform" else -INF

    # -- small things

    def i(self, n: int) -> Value:
        return const("i64", n)

    def real(self, x: float) -> Value:
        return const(self.type, x)

    def splat(self, x: float) -> Value:
        return const(self.vec, x)

    def at(self, base: Value, offset: Value | int) -> Value:
        return self.b.gep(base, self.i(offset) if isinstance(offset, int) else offset, self.type)

    def minimum(self, x: Value, y: Value) -> Value:
        return self.b.select(self.b.icmp("slt", x, y), x, y)

    def clamp(self, x: Value, low: Value, high: Value) -> Value:
        x = self.b.select(self.b.icmp("slt", x, low), low, x)
        return self.minimum(x, high)

    def ceil_div(self, x: Value, n: int) -> Value:
        """Of numbers that are not negative."""
        return self.b.binary("udiv", self.b.add(x, self.i(n - 1)), self.i(n))

    def static_scratch(self, elements: int) -> Value:
        """Scratch of a size that is known now, on a cache line."""
        p = self.em.scratch(self.taken)
        self.taken += ceil_div(elements * size_of(self.type), 64) * 64
        return p

    def stride(self, i: int) -> tuple[Value, Value, Value]:
        """Elements between batches, times and heads of operand i (0 q, 1 k, 2 v, 3 the result)."""
        b = self.b
        times = self.keys if i in (1, 2) else self.queries
        heads = self.groups if i in (1, 2) else self.heads
        depth = self.i(self.depth if i < 2 else self.width)
        if self.form.layouts[i] == "BTHD":
            time, head = b.mul(heads, depth), depth
        else:
            time, head = depth, b.mul(times, depth)
        return b.mul(b.mul(times, heads), depth), time, head

    def operand(self, i: int, name: str, batch: Value, head: Value) -> tuple[Value, Value]:
        """(pointer to time 0 of the operand, elements between times)."""
        b = self.b
        by_batch, by_time, by_head = self.stride(i)
        p = b.gep(self.em.base(name), b.add(b.mul(batch, by_batch), b.mul(head, by_head)), self.em.scalars.memory_type(self.dtype))
        return p, by_time

    def memory(self, p: Value, offset: Value) -> Value:
        """``p`` advanced by elements as they lie in arrays."""
        return self.b.gep(p, offset, self.em.scalars.memory_type(self.dtype))

    # -- vectors in memory of any element type

    def lane_mask(self, count: int | Value) -> Value:
        """Lanes below ``count``."""
        t = vector("i32", self.lanes)
        if isinstance(count, int):
            return self.b.icmp("slt", iota(t), const(t, count))
        count = self.clamp(count, self.i(0), self.i(self.lanes))
        return self.b.icmp("slt", iota(t), self.b.splat(self.b.convert("trunc", count, "i32"), self.lanes))

    def load(self, p: Value, dtype: DType, mask: Value | None = None) -> Value:
        """A vector in register form; lanes outside ``mask`` are not read and 0."""
        b, scalars = self.b, self.em.scalars
        t = scalars.memory_type(dtype)
        vt = vector(t, self.lanes)
        if mask is None:
            return scalars.from_memory(b.load(p, vt), dtype)
        if self.em.isa.masked(size_of(t)):
            return scalars.from_memory(b.masked_load(p, mask, const(vt, 0)), dtype)
        out = Value("poison", vt)
        for lane in range(self.lanes):
            q = b.select(b.extract(mask, lane), b.gep(p, self.i(lane), t), self.em.zeros())
            out = b.insert(out, b.load(q, t), lane)
        return scalars.from_memory(out, dtype)

    def load_part(self, p: Value, count: int) -> Value:
        """The first ``count`` elements of an operand's row."""
        if count >= self.lanes:
            return self.load(p, self.dtype)
        if self.em.isa.masked(size_of(self.em.scalars.memory_type(self.dtype))):
            return self.load(p, self.dtype, self.lane_mask(count))
        b, t = self.b, self.em.scalars.memory_type(self.dtype)
        out = const(vector(t, self.lanes), 0)
        for lane in range(count):
            out = b.insert(out, b.load(b.gep(p, self.i(lane), t), t), lane)
        return self.em.scalars.from_memory(out, self.dtype)

    def store_part(self, x: Value, p: Value, count: int) -> None:
        """Writes the first ``count`` lanes to an array."""
        b = self.b
        raw = self.em.scalars.to_memory(x, self.dtype)
        t = self.em.scalars.memory_type(self.dtype)
        if count >= self.lanes:
            b.store(raw, p, size_of(t))
        elif self.em.isa.masked(size_of(t)):
            b.masked_store(raw, p, self.lane_mask(count))
        else:
            for lane in range(count):
                b.store(b.extract(raw, lane), b.gep(p, self.i(lane), t))

    # -- across lanes

    def across(self, x: Value, join: Callable[[Value, Value], Value]) -> Value:
        n = lanes(x.type)
        while n > 1:
            n //= 2
            x = join(self.b.shuffle(x, None, range(n)), self.b.shuffle(x, None, range(n, 2 * n)))
        return x

    def larger(self, x: Value, y: Value) -> Value:
        """The maximum; y where x is nan, so that one nan does not hide the others' maximum."""
        return self.b.select(self.b.fcmp("ogt", x, y), x, y)

    def transposed(self, rows: Sequence[Value]) -> list[Value]:
        """A square block of registers transposed, by log2(lanes) rounds of two-way shuffles (Eklundh's method)."""
        b, n = self.b, self.lanes
        x = list(rows)
        step = 1
        while step < n:
            for i in range(n):
                if i & step:
                    continue
                low, high = x[i], x[i + step]
                x[i] = b.shuffle(low, high, [lane if not lane & step else n + lane - step for lane in range(n)])
                x[i + step] = b.shuffle(low, high, [lane + step if not lane & step else n + lane for lane in range(n)])
            step *= 2
        return x

    # -- packing

    def pack_rows(self, source: Value, step: Value, first: Value, count: Value, total: Value, columns: int, pad: int, target: Value, scale: float | None = None) -> None:
        """target[r][pad] = source[first + r][columns] (times ``scale``) for r < count; zeros from row ``total`` on."""
        b = self.b
        last = b.sub(total, self.i(1))
        with b.loop(self.i(0), count, hint="pack") as rows:
            time = b.add(first, rows.index)
            inside = b.icmp("slt", time, total)
            p = self.memory(source, b.mul(self.minimum(time, last), step))
            q = self.at(target, b.mul(rows.index, self.i(pad)))
            for at in range(0, columns, self.lanes):
                x = self.load_part(self.memory(p, self.i(at)), columns - at)
                if scale is not None:
                    x = b.fmul(x, self.splat(scale))
                b.store(b.select(b.splat(inside, self.lanes), x, self.splat(0.0)), self.at(q, at), 64)

    def pack_transposed(self, source: Value, step: Value, first: Value, panels: Value, columns: int, target: Value) -> None:
        """target[panel][c][lane] = source[first + panel * schedule.columns + lane][c]; keys beyond the last repeat it."""
        b, n, s = self.b, self.lanes, self.schedule
        last = b.sub(self.keys, self.i(1))
        with b.loop(self.i(0), panels, hint="panel") as loop:
            key = b.add(first, b.mul(loop.index, self.i(s.columns)))
            out = self.at(target, b.mul(loop.index, self.i(columns * s.columns)))
            with b.loop(self.i(0), self.i(s.columns), step=n, hint="lanes", nonempty=True) as lane_loop:  # a loop: shuffles are slow to compile
                first_key = b.add(key, lane_loop.index)
                rows = []
                for lane in range(n):
                    time = b.add(first_key, self.i(lane))
                    rows.append(self.memory(source, b.mul(self.minimum(time, last) if s.tail else time, step)))
                whole, here = columns // n, self.at(out, lane_loop.index)
                if whole:
                    with b.loop(self.i(0), self.i(whole), hint="depth", nonempty=True) as depth:
                        at = b.mul(depth.index, self.i(n))
                        self._pack_block([self.memory(r, at) for r in rows], n, self.at(here, b.mul(at, self.i(s.columns))))
                if columns % n:
                    at = self.i(whole * n)
                    self._pack_block([self.memory(r, at) for r in rows], columns % n, self.at(here, whole * n * s.columns))

    def _pack_block(self, rows: Sequence[Value], count: int, out: Value) -> None:
        for c, x in enumerate(self.transposed([self.load_part(r, count) for r in rows])[:count]):
            self.b.store(x, self.at(out, c * self.schedule.columns), size_of(self.vec))

    # -- products

    def product(self, rows: int, vectors: int, a: Value, row_step: int, k_step: int, right: Value, right_step: Value | int, count: Value) -> list[Value]:
        """The tile sum over k of a[row, k] right[k, column], for k < ``count``; row major."""
        b, n = self.b, self.lanes
        step = self.i(right_step) if isinstance(right_step, int) else right_step
        sums = [self.splat(0.0)] * (rows * vectors)
        with b.loop(self.i(0), count, state=[a, right, *sums], hint="k") as loop:
            p, q, *s = loop.state
            columns = [b.load(self.at(q, v * n), self.vec, size_of(self.type)) for v in range(vectors)]
            out = []
            for r in range(rows):
                x = b.splat(b.load(self.at(p, r * row_step), self.type), n)
                out.extend([b.fma(x, column, s[r * vectors + v]) for v, column in enumerate(columns)])
            loop.next([self.at(p, k_step), self.at(q, step), *out])
        return loop.results[2:]

    def column_tiles(self, columns: int, emit: Callable[[Value, int], None]) -> None:
        """``emit(first column, vectors)`` for all vectors of ``columns``: a loop over full tiles, then what is left."""
        n, vectors = ceil_div(columns, self.lanes), self.schedule.vectors
        whole = n // vectors
        if whole:
            with self.b.loop(self.i(0), self.i(whole), hint="column", nonempty=True) as loop:
                emit(self.b.mul(loop.index, self.i(self.schedule.columns)), vectors)
        if n % vectors:
            emit(self.i(whole * self.schedule.columns), n % vectors)

    # -- rows of scores

    @property
    def plain(self) -> bool:
        """Whether a score is what the product gives."""
        f = self.form
        return not f.causal and f.bias is None and f.mask is None and not f.soft_cap

    def extra(self, which: str, batch: Value, head: Value, query: Value) -> tuple[Value, bool] | None:
        """(pointer to the row of the bias or mask, whether it has keys)."""
        given = self.form.bias if which == "bias" else self.form.mask
        if given is None:
            return None
        b = self.b
        at, step = self.i(0), self.i(1)
        for has, n, index in zip(given[::-1], (self.keys, self.queries, self.heads, self.batch), (self.i(0), query, head, batch)):
            if has:
                at, step = b.add(at, b.mul(index, step)), b.mul(step, n)
        dtype = self.form.buffers[self.names.index(which)].dtype
        return b.gep(self.em.base(which), at, self.em.scalars.memory_type(dtype)), given[3]

    def row_scores(self, row: Value, first: Value, count: Value, query: Value, bias: tuple | None, mask: tuple | None, top: Value) -> Value:
        """Completes ``count`` panels of one row of scores in place, from key ``first`` on: soft cap, bias, mask, causal edge; returns ``top``
        (a vector) joined with them."""
        b, s = self.b, self.schedule
        if not s.tail:
            return self._score_panels(row, first, self.i(0), count, query, bias, mask, top, False)
        whole = self.clamp(b.binary("sdiv", b.sub(self.keys, first), self.i(s.columns)), self.i(0), count)
        top = self._score_panels(row, first, self.i(0), whole, query, bias, mask, top, False)
        return self._score_panels(row, first, whole, count, query, bias, mask, top, True)

    def _score_panels(self, row: Value, first: Value, begin: Value, end: Value, query: Value, bias: tuple | None, mask: tuple | None, top: Value, tail: bool) -> Value:
        b, s, f = self.b, self.schedule, self.form
        with b.loop(begin, end, state=[top] * s.vectors, hint="score") as loop:
            tops = []
            for v in range(s.vectors):
                at = b.add(b.mul(loop.index, self.i(s.columns)), self.i(v * self.lanes))
                key = b.add(first, at)
                real = self.lane_mask(b.sub(self.keys, key)) if tail else None
                p = self.at(row, at)
                x = b.load(p, self.vec)
                if f.soft_cap:
                    x = b.fmul(self.em.scalars.math.tanh(b.fmul(x, self.splat(1 / f.soft_cap))), self.splat(f.soft_cap))
                if bias is not None:
                    x = b.fadd(x, self._extra_vector("bias", bias, key, real))
                if mask is not None:
                    x = b.select(self._extra_vector("mask", mask, key, real), x, self.splat(self.fill))
                if f.causal:
                    x = b.select(self.lane_mask(b.sub(b.add(b.add(query, self.offset), self.i(1)), key)), x, self.splat(self.fill))
                if real is not None:
                    x = b.select(real, x, self.splat(-INF))
                if tail or not self.plain:
                    b.store(x, p)
                tops.append(self.larger(x, loop.state[v]))
            loop.next(tops)
        out = loop.results[0]
        for t in loop.results[1:]:
            out = self.larger(t, out)
        return out

    def _extra_vector(self, which: str, row: tuple[Value, bool], key: Value, real: Value | None) -> Value:
        b = self.b
        p, along = row
        dtype = self.form.buffers[self.names.index(which)].dtype
        t = self.em.scalars.memory_type(dtype)
        if along:
            return self.load(b.gep(p, key, t), dtype, real)
        return b.splat(self.em.scalars.from_memory(b.load(p, t), dtype), self.lanes)

    def visible(self, end: Value) -> Value:
        """How many keys the queries before ``end`` see."""
        if not self.form.causal:
            return self.keys
        return self.clamp(self.b.add(end, self.offset), self.i(0), self.keys)

    def attempts(self, emit: Callable[[Value | None], Value | None]) -> None:
        """``emit(whole)`` emits the work up to the causal edge and returns whether a query saw nothing; where such a query counts all keys, the work
        is done once more with ``whole`` true."""
        b = self.b
        if not self.form.may_redo:
            emit(None)
            return
        flag = b.alloca("i64", 8)
        b.store(self.i(1), flag)
        with b.loop(self.i(0), self.i(2), hint="attempt", nonempty=True) as loop, b.when(b.icmp("ne", b.load(flag, "i64"), self.i(0)), "run"):
            blind = emit(b.icmp("ne", loop.index, self.i(0)))
            assert blind is not None
            b.store(b.convert("zext", blind, "i64"), flag)

    def unless(self, whole: Value | None, limit: Value) -> Value:
        """The number of keys to visit: ``limit``, or all where ``whole`` holds."""
        return limit if whole is None else self.b.select(whole, self.keys, limit)
