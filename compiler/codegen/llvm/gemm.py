"""GEMM: contractions of every shape from one generator (``schedule.contraction`` says which match).

Each row of a tile (``tile``) has a pointer of its own, found once per tile, so the pixels of a convolution without border, the rows of a
matrix and a transposed operand read alike; rows beyond the last repeat it, and are not stored.

The epilogue, any expression, is evaluated by the shared walker at the tile's coordinates: on the accumulators where it is
small, else row by row from the tile, which bounds the size of the code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ....runtime.dim import Dim, ceil_div, size
from ....runtime.errors import InternalError
from ...kernel.access import Access
from ...kernel.expr import Op, axes_of, post_order
from ...kernel.ir import Kernel
from ...schedule.contraction import ContractForm, GemmSchedule, match_contraction, panels
from ...target import Target
from .builder import Module, Value, const, constants, iota, vector
from .emitter import LLVMEmitter, Local
from .loops import Emitted
from .scalars import register_type
from .tile import Tile, levels_of

REGISTER_EPILOGUE = 160  # operations up to which the epilogue is written out over the accumulators; beyond, it is a loop over rows


def unit_extents(form: ContractForm, schedule: GemmSchedule) -> list[int]:
    """The grid of work units, slowest first: batch axes, then panels and blocks of rows in the schedule's order."""
    blocks = ceil_div(form.row_count, schedule.rows * schedule.block)
    count = panels(form, schedule)
    return [*[x.extent for x in form.outer], *([count, blocks] if schedule.panels_outer else [blocks, count])]


def emit_gemm(kernel: Kernel, schedule: GemmSchedule, target: Target, module: Module, symbol: str, error_param: int | None = None) -> Emitted:
    """The function ``symbol`` for a lifted kernel that ``match_contraction`` recognises."""
    form = match_contraction(kernel)
    if form is None:
        raise InternalError(f"{kernel.name} has a GEMM schedule but not its form")
    emitter = Gemm(kernel, form, schedule, LLVMEmitter(module, symbol, kernel.buffers, target))
    emitter.em.error_param = error_param
    emitter.run()
    return Emitted(size(unit_extents(form, schedule)), 0)


class Gemm:
    """Emits one kernel."""

    def __init__(self, kernel: Kernel, form: ContractForm, schedule: GemmSchedule, em: LLVMEmitter):
        self.kernel, self.form, self.schedule, self.em, self.b = kernel, form, schedule, em, em.b
        self.type = register_type(form.contract.acc)
        self.tile = Tile(em, form, schedule)
        self.levels = levels_of(form, schedule)

    def extents(self) -> list[int]:
        return unit_extents(self.form, self.schedule)

    def run(self) -> None:
        b, em, form = self.b, self.em, self.form
        with em.loop(None, em.begin, em.end, hint="unit") as unit:
            place = self._decode(unit.index)
            panel, block = place[-2:] if self.schedule.panels_outer else place[:-3:-1]
            with contextlib.ExitStack() as stack:
                for axis, value in zip(form.outer, place):
                    stack.enter_context(em.bound(axis, value))
                column = b.mul(panel, const("i64", self.schedule.columns))
                self._rows(block, self._columns(panel, column), column, self._masks(column))
        b.ret()
        b.finish()

    def _rows(self, block: Value, columns: Value, column: Value, masks: list[Value | None]) -> None:
        """The unit's rows, tile by tile. ``columns``: pointer to b at this panel, whose first column is number ``column``."""
        b, em, form, schedule = self.b, self.em, self.form, self.schedule
        count = em.size(form.row_count)
        first = b.mul(block, const("i64", schedule.rows * schedule.block))
        stop = b.add(first, const("i64", schedule.rows * schedule.block))
        last = b.select(b.icmp("slt", stop, count), stop, count)
        base = b.gep(em.base(form.a.buffer.name), self._base(form.a_access), self.type)
        with em.loop(None, first, last, step=schedule.rows, hint="row", nonempty=True) as rows:
            self._tile(rows.index, count, base, columns, column, masks)

    def _decode(self, unit: Value) -> list[Value]:
        """The unit's place in each extent of the grid, slowest first."""
        b = self.b
        extents = self.extents()
        out: list[Value] = []
        for i in range(len(extents) - 1, 0, -1):
            n = self.em.size(extents[i])
            if n.number == 1:
                out.append(const("i64", 0))
                continue
            q = b.binary("udiv", unit, n)
            out.append(b.sub(unit, b.mul(q, n)))
            unit = q
        return [unit, *reversed(out)]

    def _base(self, a: Access) -> Value:
        """The part of an address that is the same for a whole unit: its constant, the batch axes, and quotients of these."""
        em = self.em
        out = em.size(a.constant)
        for x in self.form.outer:
            if x in a.coefficients:
                out = self.b.add(out, self.b.mul(em.axes[x].value, em.size(a.coefficients[x])))
        for e, k in a.rest.items():
            if self.form.n not in axes_of(e):  # that one is a packed panel's number
                out = self.b.add(out, self.b.mul(em.walk(e), em.size(k)))
        return out

    def _columns(self, panel: Value, column: Value) -> Value:
        """Pointer to b's panel at k = 0."""
        b, em, form = self.b, self.em, self.form
        at = self._base(form.b_access)
        at = b.add(at, b.mul(panel, em.size(form.depth * self.schedule.columns)) if form.packed else column)
        return b.gep(em.base(form.b.buffer.name), at, self.tile.panel)

    def _masks(self, column: Value) -> list[Value | None]:
        """Per column vector, the lanes inside N; None where all are."""
        b, n, width = self.b, self.form.n.extent, self.schedule.lanes
        if type(n) is not Dim and n % self.schedule.columns == 0:
            return [None] * self.schedule.vectors
        left = b.sub(self.em.size(n), column)
        out: list[Value | None] = []
        for i in range(self.schedule.vectors):
            if left.number is not None and left.number >= (i + 1) * width:
                out.append(None)
                continue
            if left.number is not None:
                out.append(constants(vector("i1", width), [i * width + lane < left.number for lane in range(width)]))
                continue
            here = b.convert("trunc", b.sub(left, const("i64", i * width)), "i32")
            out.append(b.icmp("slt", iota(vector("i32", width)), b.splat(here, width)))
        return out

    def _tile(self, row: Value, count: Value, base: Value, columns: Value, column: Value, masks: list[Value | None]) -> None:
        b, schedule = self.b, self.schedule
        coordinates = self._coordinates(row, count)
        pointers = [b.gep(base, self._row_offset(c), self.type) for c in coordinates]

        def where(at: Value, rows: Sequence[int]) -> list[Value]:
            return [b.gep(pointers[i], at, self.type) for i in rows]

        sums = self.tile.accumulate(self.levels, schedule.rows, where, columns, [None] * len(masks) if self.form.packed else masks)
        if sums is not None and self._is_small():
            for i, c in enumerate(coordinates):
                values = sums[i * schedule.vectors: (i + 1) * schedule.vectors]
                with b.when(b.icmp("slt", b.add(row, const("i64", i)), count), "row") if i else contextlib.nullcontext():
                    self._store_row(c, values, column, masks)
            return
        if sums is not None:
            self.tile.spill(sums)
        left = b.sub(count, row)
        height = b.select(b.icmp("slt", left, const("i64", schedule.rows)), left, const("i64", schedule.rows))
        with self.em.loop(None, const("i64", 0), height, state=coordinates[0], hint="out", nonempty=True) as loop:
            c = loop.state
            values = [b.load(self.tile.slot(loop.index, v), self.tile.vector, 64) for v in range(schedule.vectors)]
            self._store_row(c, values, column, masks)
            loop.next(self._next(c, const("i64", 1)))

    def _coordinates(self, row: Value, count: Value) -> list[list[Value]]:
        """The row axes' values for each row of the tile; rows beyond the last repeat it."""
        b, em, axes = self.b, self.em, self.form.rows
        first: list[Value] = []
        rest = row
        for x in reversed(axes[1:]):
            n = em.size(x.extent)
            q = b.binary("udiv", rest, n)
            first.append(b.sub(rest, b.mul(q, n)))
            rest = q
        out = [[rest, *reversed(first)] if axes else []]
        for i in range(1, self.schedule.rows):
            more = b.convert("zext", b.icmp("slt", b.add(row, const("i64", i)), count), "i64")
            out.append(self._next(out[-1], more))
        return out

    def _next(self, c: list[Value], step: Value) -> list[Value]:
        """Coordinates ``step`` (0 or 1) rows on: the fastest axis counts up and carries into the next."""
        b, em, axes = self.b, self.em, self.form.rows
        out: list[Value] = []
        for x, value in zip(reversed(axes), reversed(c)):
            value = b.add(value, step)
            if x is not axes[0]:
                full = b.icmp("sge", value, em.size(x.extent))
                step = b.convert("zext", full, "i64")
                value = b.select(full, const("i64", 0), value)
            out.append(value)
        return out[::-1]

    def _row_offset(self, c: list[Value]) -> Value:
        b, em = self.b, self.em
        out = const("i64", 0)
        for x, value in zip(self.form.rows, c):
            out = b.add(out, b.mul(value, em.size(self.form.a_access.coefficients[x])))
        return out

    def _is_small(self) -> bool:
        """Whether the epilogue is cheap enough to be written out for every accumulator."""
        cost = sum(e.fn.cost for s in self.kernel.stores for e in post_order([s.expr]) if isinstance(e, Op) and e.dtype.is_float)
        return cost * self.schedule.rows * self.schedule.vectors <= REGISTER_EPILOGUE

    def _store_row(self, c: list[Value], sums: list[Value], column: Value, masks: list[Value | None]) -> None:
        """The epilogue of one row: every Store, at each column vector."""
        b, em, form = self.b, self.em, self.form
        for i, (value, mask) in enumerate(zip(sums, masks)):
            at = b.add(column, const("i64", i * self.schedule.lanes))
            with em.inline(form.n, at, self.schedule.lanes, mask), contextlib.ExitStack() as stack:
                for axis, x in zip(form.rows, c):
                    stack.enter_context(em.bound(axis, x))
                self.store(Local(em.level, [value], vector_axis=form.n))

    def store(self, sums: Local) -> None:
        """Every Store at the place that is bound."""
        em, name = self.em, self.form.contract.name
        em.locals[name] = sums
        for s in self.kernel.stores:
            em.store(s, em.walk(s.expr), None)
        del em.locals[name]
