"""The forward pass of attention: one work unit per batch, head and block of queries.

Keys are visited in blocks, with a running maximum and sum per query (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018), so scratch does not grow
with their number. A row of scores stays in first-level cache between the two products; sums are divided out once at the end. Units depend on extents alone, and so
do the bits of the result.
"""

from __future__ import annotations

from ....runtime.dim import ceil_div, size
from ...kernel.attention import Attend, AttendGrad
from ...schedule.attention import AttentionSchedule
from ...target import Target
from .attention_grad import emit_attention_grad
from .attention_tiles import INF, Tiles
from .builder import Module, Value
from .loops import Emitted


def emit_attention(form: Attend, schedule: AttentionSchedule, target: Target, module: Module, symbol: str, error_param: int | None = None) -> Emitted:
    """The function ``symbol`` for a lifted ``Attend`` or ``AttendGrad``."""
    if isinstance(form, AttendGrad):
        return emit_attention_grad(form, schedule, target, module, symbol)
    return _Forward(form, schedule, target, module, symbol).run()


class _Forward(Tiles):
    def run(self) -> Emitted:
        b, em, s, form = self.b, self.em, self.schedule, self.form
        batch, queries, _, heads, _, _ = form.sizes
        blocks = ceil_div(queries, s.chunk)
        self.direct = self.width % self.lanes == 0 and self.type == em.scalars.memory_type(self.dtype)  # values are read where they lie
        self.kt = self.static_scratch(s.keys * self.depth)
        self.v = None if self.direct else self.static_scratch(s.keys * self.width_pad)
        self.q = self.static_scratch(s.chunk * self.depth_pad)
        self.scores = self.static_scratch(s.rows * s.keys)
        self.out = self.static_scratch(s.chunk * self.width_pad)
        self.tops = self.static_scratch(s.chunk)
        self.sums = self.static_scratch(s.chunk * self.lanes)
        spare = ceil_div(s.rows, self.lanes) * self.lanes
        self.old, self.new = self.static_scratch(spare), self.static_scratch(spare)
        with em.loop(None, em.begin, em.end, hint="unit") as unit:
            place, block = self._split(unit.index, em.size(blocks))
            self.n, self.h = self._split(place, self.heads)
            self.first = b.mul(block, self.i(s.chunk))
            group = b.binary("udiv", self.h, b.binary("udiv", self.heads, self.groups))
            q, q_step = self.operand(0, self.names[0], self.n, self.h)
            self.k, self.k_step = self.operand(1, self.names[1], self.n, group)
            self.values, self.v_step = self.operand(2, self.names[2], self.n, group)
            self.count = self.minimum(b.sub(self.queries, self.first), self.i(s.chunk))  # queries of this block
            self.tiles = self.ceil_div(self.count, s.rows)
            self.pack_rows(q, q_step, self.first, b.mul(self.tiles, self.i(s.rows)), self.queries, self.depth, self.depth_pad, self.q, form.scale)
            self.attempts(self._attempt)
            self._finish()
        b.ret()
        b.finish()
        return Emitted(size((batch, heads, blocks)), self.taken)

    def _split(self, x: Value, n: Value) -> tuple[Value, Value]:
        b = self.b
        q = b.binary("udiv", x, n)
        return q, b.sub(x, b.mul(q, n))

    def _attempt(self, whole: Value | None) -> Value | None:
        """All keys that the block's queries see."""
        b, s = self.b, self.schedule
        with b.loop(self.i(0), b.mul(self.tiles, self.i(s.rows)), hint="clear") as rows:
            b.store(self.real(-INF), self.at(self.tops, rows.index))
            b.store(self.splat(0.0), self.at(self.sums, b.mul(rows.index, self.i(self.lanes))), 64)
            for at in range(0, self.width_pad, self.lanes):
                b.store(self.splat(0.0), self.at(self.out, b.add(b.mul(rows.index, self.i(self.width_pad)), self.i(at))), 64)
        limit = self.unless(whole, self.visible(b.add(self.first, self.count)))
        with b.loop(self.i(0), limit, step=s.keys, hint="keys") as loop:
            key = loop.index
            here = self.minimum(b.sub(limit, key), self.i(s.keys))
            self.pack_transposed(self.memory(self.k, self.i(0)), self.k_step, key, self.ceil_div(here, s.columns), self.depth, self.kt)
            if self.v is not None:
                self.pack_rows(self.memory(self.values, b.mul(key, self.v_step)), self.v_step, self.i(0), here, here, self.width, self.width_pad, self.v)
            with b.loop(self.i(0), self.tiles, hint="tile") as tile:
                row = b.mul(tile.index, self.i(s.rows))
                seen = self.minimum(self.unless(whole, self.visible(b.add(b.add(self.first, row), self.i(s.rows)))), limit)  # rows beyond the last see no more
                some = self.minimum(b.sub(seen, key), self.i(s.keys))
                if self.form.causal:
                    with b.when(b.icmp("sgt", some, self.i(0)), "visible"):
                        self._tile(row, key, some)
                else:
                    self._tile(row, key, some)
        if whole is None:
            return None
        with b.loop(self.i(0), self.count, state=[self.i(0)], hint="blind") as rows:
            low = b.fcmp("ole", b.load(self.at(self.tops, rows.index), self.type), self.real(self.fill * 0.999))
            rows.next([b.or_(rows.state[0], b.convert("zext", low, "i64"))])
        return b.icmp("ne", rows.results[0], self.i(0))

    def _tile(self, row: Value, key: Value, count: Value) -> None:
        """``count`` keys from ``key`` on for the tile of queries at ``row``: scores, probabilities, and their product with the values."""
        b, s = self.b, self.schedule
        panels = self.ceil_div(count, s.columns)
        q = self.at(self.q, b.mul(row, self.i(self.depth_pad)))
        with b.loop(self.i(0), panels, hint="panel", nonempty=True) as panel:
            sums = self.product(s.rows, s.vectors, q, self.depth_pad, 1, self.at(self.kt, b.mul(panel.index, self.i(self.depth * s.columns))), s.columns,
                                self.i(self.depth))
            at = b.mul(panel.index, self.i(s.columns))
            for i, x in enumerate(sums):
                r, v = divmod(i, s.vectors)
                b.store(x, self.at(self.scores, b.add(at, self.i(r * s.keys + v * self.lanes))))
        self._maxima(row, key, panels)
        self._exponentials(row, panels)
        if self.v is not None:
            right, step = self.v, self.i(self.width_pad)
        else:
            right, step = self.memory(self.values, b.mul(key, self.v_step)), self.v_step

        def columns(column: Value, vectors: int) -> None:
            sums = self.product(s.rows, vectors, self.scores, s.keys, 1, self.at(right, column), step, count)
            for r in range(s.rows):
                scale = b.splat(b.load(self.at(self.old, r), self.type), self.lanes)
                for v in range(vectors):
                    p = self.at(self.out, b.add(b.add(b.mul(row, self.i(self.width_pad)), column), self.i(r * self.width_pad + v * self.lanes)))
                    b.store(b.fma(b.load(p, self.vec), scale, sums[r * vectors + v]), p)

        self.column_tiles(self.width, columns)

    def _maxima(self, row: Value, key: Value, panels: Value) -> None:
        """New maxima of the tile's rows into ``new``, the factors for what was summed under the old ones into ``old``."""
        b, s = self.b, self.schedule
        last = b.sub(self.queries, self.i(1))
        with b.loop(self.i(0), self.i(s.rows), hint="row", nonempty=True) as rows:
            query = self.minimum(b.add(b.add(self.first, row), rows.index), last)
            bias, mask = (self.extra(which, self.n, self.h, query) for which in ("bias", "mask"))
            top = self.row_scores(self.at(self.scores, b.mul(rows.index, self.i(s.keys))), key, panels, query, bias, mask, self.splat(-INF))
            p = self.at(self.tops, b.add(row, rows.index))
            old = b.load(p, self.type)
            new = self.larger(self.across(top, self.larger), old)
            b.store(new, p)
            b.store(old, self.at(self.old, rows.index))
            b.store(new, self.at(self.new, rows.index))
        for at in range(0, s.rows, self.lanes):
            old, new = (b.load(self.at(p, at), self.vec) for p in (self.old, self.new))
            new = b.select(b.fcmp("oeq", new, self.splat(-INF)), self.splat(0.0), new)  # a row of -inf alone: all its terms are 0
            b.store(new, self.at(self.new, at))
            b.store(self.em.scalars.math.exp(b.fsub(old, new)), self.at(self.old, at))

    def _exponentials(self, row: Value, panels: Value) -> None:
        """Scores become exponentials; their sums are kept lane by lane."""
        b, s = self.b, self.schedule
        with b.loop(self.i(0), self.i(s.rows), hint="row", nonempty=True) as rows:
            top, scale = (b.splat(b.load(self.at(p, rows.index), self.type), self.lanes) for p in (self.new, self.old))
            p = self.at(self.sums, b.mul(b.add(row, rows.index), self.i(self.lanes)))
            start = [b.fmul(b.load(p, self.vec), scale), *[self.splat(0.0)] * (s.vectors - 1)]
            with b.loop(self.i(0), panels, state=start, hint="exp", nonempty=True) as loop:
                sums = []
                for v in range(s.vectors):
                    at = self.at(self.scores, b.add(b.add(b.mul(rows.index, self.i(s.keys)), b.mul(loop.index, self.i(s.columns))), self.i(v * self.lanes)))
                    e = self.em.scalars.math.exp(b.fsub(b.load(at, self.vec), top))
                    b.store(e, at)
                    sums.append(b.fadd(loop.state[v], e))
                loop.next(sums)
            total = loop.results[0]
            for x in loop.results[1:]:
                total = b.fadd(total, x)
            b.store(total, p)

    def _finish(self) -> None:
        """Divides the sums out and writes the block."""
        b = self.b
        out, step = self.operand(3, self.names[-1], self.n, self.h)
        with b.loop(self.i(0), self.count, hint="finish") as rows:
            total = self.across(b.load(self.at(self.sums, b.mul(rows.index, self.i(self.lanes))), self.vec), b.fadd)
            inverse = b.select(b.fcmp("oeq", total, self.real(0.0)), self.real(0.0), b.fdiv(self.real(1.0), total))
            scale = b.splat(inverse, self.lanes)
            p = self.memory(out, b.mul(b.add(self.first, rows.index), step))
            for at in range(0, self.width, self.lanes):
                x = b.load(self.at(self.out, b.add(b.mul(rows.index, self.i(self.width_pad)), self.i(at))), self.vec)
                self.store_part(b.fmul(x, scale), self.memory(p, self.i(at)), self.width - at)
