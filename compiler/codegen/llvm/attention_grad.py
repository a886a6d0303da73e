"""The backward pass of attention: one work unit per batch and head of the keys, five products, nothing stored between the passes.

For each block of queries of every head in the group: scores and their softmax are computed again, then the cotangents of the probabilities
and of the scores, over whole rows; from these the block's dq, and its terms of dk and dv, which stay in scratch until the unit is done. So sums over queries
are in one fixed order, whatever the number of threads (units that share keys would have to be joined by someone). Scratch grows with the number of keys.
"""

from __future__ import annotations

from ....runtime.dim import ceil_div, size
from ...kernel.attention import AttendGrad
from ...schedule.attention import AttentionSchedule
from ...target import Target
from .attention_tiles import INF, Tiles
from .builder import Module, Value, size_of
from .loops import Emitted


def emit_attention_grad(form: AttendGrad, schedule: AttentionSchedule, target: Target, module: Module, symbol: str) -> Emitted:
    """The function ``symbol`` for a lifted ``AttendGrad``."""
    return _Backward(form, schedule, target, module, symbol).run()


class _Backward(Tiles):
    def run(self) -> Emitted:
        b, em, s, form = self.b, self.em, self.schedule, self.form
        batch, _, keys, _, groups, _ = form.sizes
        self.blocks = ceil_div(keys, s.keys)  # of keys
        padded = self.blocks * s.keys
        same = self.type == em.scalars.memory_type(self.dtype)
        self.q, self.ct = self.static_scratch(s.chunk * self.depth_pad), self.static_scratch(s.chunk * self.width_pad)
        self.dq_block = self.static_scratch(s.chunk * self.depth_pad)
        self.inverse = self.static_scratch(s.chunk)
        self.bytes: int = self.taken
        self.kt, self.vt = self._scratch(padded * self.depth), self._scratch(padded * self.width)
        self.dk, self.dv = self._scratch(padded * self.depth_pad), self._scratch(padded * self.width_pad)
        self.p, self.ds = self._scratch(padded * s.chunk), self._scratch(padded * s.chunk)
        self.packed = None if same and self.depth % self.lanes == 0 else self._scratch(padded * self.depth_pad)
        with em.loop(None, em.begin, em.end, hint="unit") as unit:
            self.n = b.binary("udiv", unit.index, self.groups)
            self.g = b.sub(unit.index, b.mul(self.n, self.groups))
            self._keys()
            per = b.binary("udiv", self.heads, self.groups)
            with b.loop(b.mul(self.g, per), b.mul(b.add(self.g, self.i(1)), per), hint="head") as head:
                self.h = head.index
                q, q_step = self.operand(0, self.names[0], self.n, self.h)
                ct, ct_step = self.operand(3, self.names[-4], self.n, self.h)
                with b.loop(self.i(0), self.queries, step=s.chunk, hint="block") as loop:
                    self.first = loop.index
                    self.count = self.minimum(b.sub(self.queries, self.first), self.i(s.chunk))
                    self.tiles = self.ceil_div(self.count, s.rows)
                    rows = b.mul(self.tiles, self.i(s.rows))
                    self.pack_rows(q, q_step, self.first, rows, self.queries, self.depth, self.depth_pad, self.q, form.scale)
                    self.pack_rows(ct, ct_step, self.first, rows, self.queries, self.width, self.width_pad, self.ct)
                    self.limit = b.alloca("i64", 8)
                    self.attempts(self._probabilities)
                    self._block()
            self._write(self.names[-2], 1, self.dk, self.depth, self.depth_pad)
            self._write(self.names[-1], 2, self.dv, self.width, self.width_pad)
        b.ret()
        b.finish()
        return Emitted(size((batch, groups)), self.bytes)

    def _scratch(self, elements: int) -> Value:
        """Scratch of a size that is known at run time."""
        p = self.b.gep(self.em.scratch(0), self.em.size(self.bytes), "i8")
        self.bytes = self.bytes + ceil_div(elements * size_of(self.type), 64) * 64
        return p

    def _keys(self) -> None:
        """Keys and values transposed, keys as they are where they can't be read in place; sums cleared."""
        b = self.b
        k, k_step = self.operand(1, self.names[1], self.n, self.g)
        v, v_step = self.operand(2, self.names[2], self.n, self.g)
        panels = self.ceil_div(self.keys, self.schedule.columns)
        self.pack_transposed(k, k_step, self.i(0), panels, self.depth, self.kt)
        self.pack_transposed(v, v_step, self.i(0), panels, self.width, self.vt)
        self.k, self.k_step = k, k_step
        if self.packed is not None:
            self.pack_rows(k, k_step, self.i(0), self.keys, self.keys, self.depth, self.depth_pad, self.packed)
            self.k, self.k_step = self.packed, self.i(self.depth_pad)
        for sums, pad in ((self.dk, self.depth_pad), (self.dv, self.width_pad)):
            count = self.em.size(self.blocks * self.schedule.keys)
            with b.loop(self.i(0), b.mul(count, self.i(pad)), step=self.lanes, hint="clear") as loop:
                b.store(self.splat(0.0), self.at(sums, loop.index), 64)

    # -- places in the arrays of scores, [block of keys][query][key in the block]

    def _scores(self, base: Value, block: Value, row: Value | int) -> Value:
        s = self.schedule
        row = self.i(row) if isinstance(row, int) else row
        return self.at(base, self.b.mul(self.b.add(self.b.mul(block, self.i(s.chunk)), row), self.i(s.keys)))

    def _over_blocks(self, limit: Value, state: list[Value] | None = None):
        """A loop over the blocks of keys before ``limit``."""
        return self.b.loop(self.i(0), self.ceil_div(limit, self.schedule.keys), state=state or [], hint="keys")

    def _here(self, block: Value, limit: Value) -> Value:
        """Keys of a block that lie before ``limit``."""
        s = self.schedule
        return self.minimum(self.b.sub(limit, self.b.mul(block, self.i(s.keys))), self.i(s.keys))

    def _panels(self, block: Value, limit: Value) -> Value:
        """Tiles of columns that hold the keys of a block before ``limit``, and the rest of their tile of rows, whose probabilities are then 0."""
        b, s = self.b, self.schedule
        before = b.mul(block, self.i(s.keys))
        rows = b.mul(self.ceil_div(self._here(block, limit), s.key_rows), self.i(s.key_rows))
        return self.ceil_div(self.minimum(rows, b.sub(self.keys, before)), s.columns)

    # -- the passes over a block of queries

    def _products(self, left: Value, pad: int, right: Value, depth: int, target: Value, limit: Value) -> None:
        """target[query, key] = sum over ``depth`` of left[query] right[key], for all tiles."""
        b, s = self.b, self.schedule
        with b.loop(self.i(0), self.tiles, hint="tile") as tile:
            row = b.mul(tile.index, self.i(s.rows))
            with self._over_blocks(limit) as blocks:
                out = self._scores(target, blocks.index, row)
                panels = self._panels(blocks.index, limit)
                packed = self.at(right, b.mul(blocks.index, self.i(s.keys * depth)))
                with b.loop(self.i(0), panels, hint="panel", nonempty=True) as panel:
                    sums = self.product(s.rows, s.vectors, self.at(left, b.mul(row, self.i(pad))), pad, 1,
                                        self.at(packed, b.mul(panel.index, self.i(depth * s.columns))), s.columns, self.i(depth))
                    at = b.mul(panel.index, self.i(s.columns))
                    for i, x in enumerate(sums):
                        r, v = divmod(i, s.vectors)
                        b.store(x, self.at(out, b.add(at, self.i(r * s.keys + v * self.lanes))))

    def _probabilities(self, whole: Value | None) -> Value | None:
        """Scores, then exponentials, into ``p``; the reciprocals of their sums into ``inverse``. The keys visited are kept in ``limit``."""
        b, s = self.b, self.schedule
        limit = self.unless(whole, self.visible(b.add(self.first, self.count)))
        b.store(limit, self.limit)
        self._products(self.q, self.depth_pad, self.kt, self.depth, self.p, limit)
        last = b.sub(self.queries, self.i(1))
        blind = b.alloca("i64", 8)
        b.store(self.i(0), blind)
        with b.loop(self.i(0), b.mul(self.tiles, self.i(s.rows)), hint="row") as rows:
            row = rows.index
            query = self.minimum(b.add(self.first, row), last)
            bias, mask = (self.extra(which, self.n, self.h, query) for which in ("bias", "mask"))
            with self._over_blocks(limit, [self.splat(-INF)]) as blocks:
                panels = self._panels(blocks.index, limit)
                blocks.next([self.row_scores(self._scores(self.p, blocks.index, row), b.mul(blocks.index, self.i(s.keys)), panels, query, bias, mask,
                                             blocks.state[0])])
            top = self.across(blocks.results[0], self.larger)
            dead = b.fcmp("ole", top, self.real(self.fill * 0.999))  # nothing counts in this row
            if whole is not None:
                real = b.icmp("slt", row, self.count)
                b.store(b.or_(b.load(blind, "i64"), b.convert("zext", b.and_(dead, real), "i64")), blind)
            shift = b.splat(b.select(b.fcmp("oeq", top, self.real(-INF)), self.real(0.0), top), self.lanes)
            with self._over_blocks(limit, [self.splat(0.0)] * s.vectors) as blocks:
                p = self._scores(self.p, blocks.index, row)
                with b.loop(self.i(0), self._panels(blocks.index, limit), state=blocks.state, hint="exp", nonempty=True) as loop:
                    sums = []
                    for v in range(s.vectors):
                        at = self.at(p, b.add(b.mul(loop.index, self.i(s.columns)), self.i(v * self.lanes)))
                        e = self.em.scalars.math.exp(b.fsub(b.load(at, self.vec), shift))
                        b.store(e, at)
                        sums.append(b.fadd(loop.state[v], e))
                    loop.next(sums)
                blocks.next(loop.results)
            total = blocks.results[0]
            for x in blocks.results[1:]:
                total = b.fadd(total, x)
            total = self.across(total, b.fadd)
            inverse = b.select(b.fcmp("oeq", total, self.real(0.0)), self.real(0.0), b.fdiv(self.real(1.0), total))
            # the sign says that the scores of the row have no cotangent
            b.store(b.select(dead, b.fneg(inverse), inverse), self.at(self.inverse, row))
        return None if whole is None else b.icmp("ne", b.load(blind, "i64"), self.i(0))

    def _block(self) -> None:
        """The cotangents of probabilities and scores; dq; terms of dk and dv."""
        b, s = self.b, self.schedule
        limit = b.load(self.limit, "i64")
        self._products(self.ct, self.width_pad, self.vt, self.width, self.ds, limit)
        with b.loop(self.i(0), b.mul(self.tiles, self.i(s.rows)), hint="row") as rows:
            self._row_gradient(rows.index, limit)
        self._queries(limit)
        self._sums(self.p, self.ct, self.width, self.width_pad, self.dv, limit)
        self._sums(self.ds, self.q, self.depth, self.depth_pad, self.dk, limit)

    def _row_gradient(self, row: Value, limit: Value) -> None:
        """p becomes probabilities, ds (holding dp) becomes p (dp - <p, dp>)."""
        b, s = self.b, self.schedule
        inverse = b.load(self.at(self.inverse, row), self.type)
        scale = b.splat(self.em.scalars.math.abs(inverse), self.lanes)
        live = b.splat(b.fcmp("oge", inverse, self.real(0.0)), self.lanes)

        def panels(block: Value, state: list[Value]):
            return b.loop(self.i(0), self._panels(block, limit), state=state, hint="grad", nonempty=True)

        with self._over_blocks(limit, [self.splat(0.0)] * s.vectors) as blocks:
            with panels(blocks.index, blocks.state) as loop:
                sums = []
                for v in range(s.vectors):
                    at = b.add(b.mul(loop.index, self.i(s.columns)), self.i(v * self.lanes))
                    place = self.at(self._scores(self.p, blocks.index, row), at)
                    p = b.fmul(b.load(place, self.vec), scale)
                    b.store(p, place)
                    sums.append(b.fma(p, b.load(self.at(self._scores(self.ds, blocks.index, row), at), self.vec), loop.state[v]))
                loop.next(sums)
            blocks.next(loop.results)
        total = blocks.results[0]
        for x in blocks.results[1:]:
            total = b.fadd(total, x)
        mean = b.splat(self.across(total, b.fadd), self.lanes)
        with self._over_blocks(limit) as blocks, panels(blocks.index, []) as loop:
            for v in range(s.vectors):
                at = b.add(b.mul(loop.index, self.i(s.columns)), self.i(v * self.lanes))
                p, place = (self.at(self._scores(base, blocks.index, row), at) for base in (self.p, self.ds))
                d = b.fmul(b.load(p, self.vec), b.fsub(b.load(place, self.vec), mean))
                b.store(b.select(live, d, self.splat(0.0)), place)

    def _queries(self, limit: Value) -> None:
        """dq of the block: scale ds k."""
        b, s = self.b, self.schedule
        with b.loop(self.i(0), self.tiles, hint="tile") as tile:
            row = b.mul(tile.index, self.i(s.rows))
            out = self.at(self.dq_block, b.mul(row, self.i(self.depth_pad)))
            for i in range(0, s.rows * self.depth_pad, self.lanes):
                b.store(self.splat(0.0), self.at(out, i), 64)
            with self._over_blocks(limit) as blocks:
                left = self._scores(self.ds, blocks.index, row)
                right = self.at(self.k, b.mul(b.mul(blocks.index, self.i(s.keys)), self.k_step))
                here = self._here(blocks.index, limit)

                def columns(column: Value, vectors: int, left: Value = left, right: Value = right, here: Value = here, out: Value = out) -> None:
                    self._accumulate(out, self.depth_pad, column, s.rows, vectors,
                                     self.product(s.rows, vectors, left, s.keys, 1, self.at(right, column), self.k_step, here))

                self.column_tiles(self.depth, columns)
        target, step = self.operand(0, self.names[-3], self.n, self.h)
        with b.loop(self.i(0), self.count, hint="finish") as rows:
            p = self.memory(target, b.mul(b.add(self.first, rows.index), step))
            for at in range(0, self.depth, self.lanes):
                x = b.load(self.at(self.dq_block, b.add(b.mul(rows.index, self.i(self.depth_pad)), self.i(at))), self.vec)
                self.store_part(b.fmul(x, self.splat(self.form.scale)), self.memory(p, self.i(at)), self.depth - at)

    def _accumulate(self, out: Value, pad: int, column: Value, rows: int, vectors: int, sums: list[Value]) -> None:
        b = self.b
        for i, x in enumerate(sums):
            r, v = divmod(i, vectors)
            p = self.at(out, b.add(column, self.i(r * pad + v * self.lanes)))
            b.store(b.fadd(b.load(p, self.vec), x), p)

    def _sums(self, left: Value, right: Value, columns: int, pad: int, target: Value, limit: Value) -> None:
        """target[key] += sum over the block's queries of left[query, key] right[query]."""
        b, s = self.b, self.schedule
        rows = b.mul(self.tiles, self.i(s.rows))
        with self._over_blocks(limit) as blocks, b.loop(self.i(0), self._here(blocks.index, limit), step=s.key_rows, hint="key", nonempty=True) as keys:
            a = self.at(self._scores(left, blocks.index, 0), keys.index)
            out = self.at(target, b.mul(b.add(b.mul(blocks.index, self.i(s.keys)), keys.index), self.i(pad)))

            def tile(column: Value, vectors: int) -> None:
                sums = self.product(s.key_rows, vectors, a, 1, s.keys, self.at(right, column), pad, rows)
                self._accumulate(out, pad, column, s.key_rows, vectors, sums)

            self.column_tiles(columns, tile)

    def _write(self, name: str, i: int, sums: Value, columns: int, pad: int) -> None:
        b = self.b
        target, step = self.operand(i, name, self.n, self.g)
        with b.loop(self.i(0), self.keys, hint="write") as rows:
            p, q = self.memory(target, b.mul(rows.index, step)), self.at(sums, b.mul(rows.index, self.i(pad)))
            for at in range(0, columns, self.lanes):
                self.store_part(b.load(self.at(q, at), self.vec), self.memory(p, self.i(at)), columns - at)
