"""Contractions in which every lane has a sum of its own: depthwise convolution, with or without a border, and its gradients.

A tile is a segment of the innermost row axis by one vector of channels; ``direct`` says how borders bound it. The taps along that axis are
written out: their weights stay in registers, and an element that several taps of neighbouring pixels read is loaded once.
Channels go innermost, so that memory is read in the order in which it lies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from ....runtime.dim import Dim, size
from ....runtime.errors import InternalError
from ...kernel.expr import Axis
from ...kernel.ir import Kernel
from ...schedule.contraction import ContractForm, LanewiseSchedule, match_contraction, unrolled_axis
from ...target import Target
from .builder import Module, Value, const, constants, iota, vector
from .direct import Direct, Shape, direct_extents
from .emitter import LLVMEmitter, Local
from .loops import Emitted
from .tile import Level, Tile, levels_of


def emit_lanewise(kernel: Kernel, schedule: LanewiseSchedule, target: Target, module: Module, symbol: str, error_param: int | None = None) -> Emitted:
    """The function ``symbol`` for a lifted kernel whose ``match_contraction`` is lane-wise."""
    form = match_contraction(kernel)
    if form is None or not form.lanewise:
        raise InternalError(f"{kernel.name} has a lane-wise schedule but not its form")
    emitter = Lanewise(kernel, form, schedule, LLVMEmitter(module, symbol, kernel.buffers, target))
    emitter.em.error_param = error_param
    emitter.run()
    return Emitted(size(direct_extents(form, schedule)), 0)


class LaneTile(Tile):
    """One vector per row. ``offsets``: elements of a from the first row to each."""

    def __init__(self, em: LLVMEmitter, form: ContractForm, schedule: LanewiseSchedule, offsets: Sequence[int]):
        super().__init__(em, form, replace(schedule, vectors=1))
        self.offsets = offsets

    def _loaded(self, pointer: Value) -> Value:
        mask = self.masks[0]
        return self.b.load(pointer, self.vector) if mask is None else self.b.masked_load(pointer, mask, const(self.vector, 0))

    def _nest(self, levels: Sequence[Level], active: Sequence[int], at: Value, panel: Value, sums: list[Value]) -> list[Value]:
        if len(levels) != 1 or not levels[0].rounds:
            return super()._nest(levels, active, at, panel, sums)
        b, level = self.b, levels[0]
        weights: dict[int, Value] = {}
        taps: dict[int, list[tuple[int, int]]] = {}  # elements from the tile's first -> who reads there: (round, row)
        for q, rows in enumerate(level.rounds):
            for i in rows:
                taps.setdefault(self.offsets[i] + q * level.a, []).append((q, i))
        (here,) = self.where(at, [0])
        for offset in sorted(taps):
            x = self._loaded(b.gep(here, const("i64", offset), self.type))
            for q, i in taps[offset]:
                if q not in weights:
                    weights[q] = self.weights(b.gep(panel, const("i64", q * level.b), self.panel), self.masks[0])
                n = active.index(i)
                sums[n] = b.fma(x, weights[q], sums[n])
        return sums

    def _step(self, active: Sequence[int], at: Value, panel: Value, sums: list[Value]) -> list[Value]:
        b, w = self.b, self.weights(panel, self.masks[0])
        return [b.fma(self._loaded(p), w, s) for p, s in zip(self.where(at, active), sums)]


class Lanewise(Direct):
    """Emits one kernel."""

    def __init__(self, kernel: Kernel, form: ContractForm, schedule: LanewiseSchedule, em: LLVMEmitter):
        super().__init__(kernel, form, schedule, em)
        self.offsets = [i * self._along for i in range(schedule.rows)]
        self.tile = LaneTile(em, form, schedule, self.offsets)
        self.unrolled = unrolled_axis(form)

    def _masks(self, column: Value) -> list[Value | None]:
        return []  # a unit's vectors have masks one by one

    def _segment(self, shape: Shape, run: list[Value], first: Value, start: Value, limits: dict[Axis, tuple], panel: Value, column: Value,
                 masks: list[Value | None]) -> None:
        """One segment at all vectors of the unit: whole ones, and what is left beyond them."""
        b, em, schedule, n = self.b, self.em, self.schedule, self.form.n.extent
        inside = dict(limits)
        if self.unrolled is not None:
            inside[self.unrolled] = shape.inside or (tuple(range(shape.rows)),) * self.unrolled.extent
        levels = levels_of(self.form, schedule, inside)
        end = b.intrinsic("llvm.smin", "i64", [b.add(column, const("i64", schedule.columns)), em.size(n)])
        lanes = schedule.lanes
        whole = end
        if type(n) is Dim or n % lanes:
            whole = b.add(column, b.and_(b.sub(end, column), const("i64", -lanes)))
        with em.loop(self.form.n, column, whole, lanes, lanes) as loop:
            self._vector(levels, shape, run, first, start, b.sub(loop.index, column), panel, loop.index, None)
        if whole is not end:
            left = b.sub(end, whole)
            t = vector("i32", lanes)
            mask = b.icmp("slt", iota(t), b.splat(b.convert("trunc", left, "i32"), lanes))
            if type(n) is not Dim:
                mask = constants(vector("i1", lanes), [i < n % lanes for i in range(lanes)])
            with b.when(b.icmp("sgt", left, const("i64", 0)), "left"), em.inline(self.form.n, whole, lanes, mask):
                self._vector(levels, shape, run, first, start, b.sub(whole, column), panel, whole, mask)

    def _vector(self, levels: Sequence[Level], shape: Shape, run: list[Value], first: Value, start: Value, at: Value, panel: Value,
                column: Value, mask: Value | None) -> None:
        b, em, form = self.b, self.em, self.form
        begin = b.gep(start, column, self.type)

        def where(offset: Value, rows: Sequence[int]) -> list[Value]:
            here = b.gep(begin, offset, self.type)
            return [b.gep(here, const("i64", self.offsets[i]), self.type) for i in rows]

        sums = self.tile.accumulate(levels, shape.rows, where, b.gep(panel, at, self.tile.panel), [mask])
        for i in range(shape.rows):
            value = b.load(self.tile.slot(i, 0), self.tile.vector, 64) if sums is None else sums[i]
            with em.inline(form.rows[-1], b.add(first, const("i64", i))), contextlib.ExitStack() as stack:
                for axis, x in zip(form.rows[:-1], run):
                    stack.enter_context(em.bound(axis, x))
                self.store(Local(em.level, [value], vector_axis=form.n))
