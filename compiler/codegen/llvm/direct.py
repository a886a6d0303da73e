"""Contractions with a border: convolution over an image that is stored without its padding, and its gradients.

A tile is a segment of the innermost row axis (pixels of one image row), so every bound on a tap is either the same for the whole tile, and
shortens that tap's loop, or depends on the place along that axis alone. Then it is known here which of the tile's pixels a tap reaches:
tiles at the edges are written out tap by tap with those pixels, tiles between them have none to leave out. Nothing is padded, copied or multiplied by zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from ....runtime.dim import ceil_div, size
from ....runtime.errors import InternalError
from ...kernel.expr import Axis
from ...kernel.ir import Kernel
from ...schedule.contraction import (
    Bound,
    ContractForm,
    DirectSchedule,
    match_contraction,
    panels,
    phase_axes,
    segment_bounds,
    segments,
)
from ...target import Target
from .builder import Module, Value, const
from .emitter import LLVMEmitter
from .gemm import Gemm
from .loops import Emitted
from .tile import levels_of


@dataclass(frozen=True)
class Shape:
    """A tile's pixels, and which of them each round of the bounded tap reaches; () where all reach all."""

    rows: int
    inside: tuple[tuple[int, ...], ...]


def shape_of(form: ContractForm, first: int, rows: int, phases: Mapping[Axis, int]) -> Shape:
    """The tile of ``rows`` pixels from ``first`` on, at these values of ``phase_axes``."""
    bounds = segment_bounds(form)
    if not bounds:
        return Shape(rows, ())
    axis = form.rows[-1]
    inside = tuple(
        tuple(i for i in range(rows) if all(x.holds(q, {**phases, axis: first + i}) for x in bounds)) for q in range(bounds[0].k.extent))
    return Shape(rows, () if all(len(x) == rows for x in inside) else inside)


def direct_extents(form: ContractForm, schedule: DirectSchedule) -> list[int]:
    """The grid of work units, slowest first: batch axes, then panels and blocks of runs in the schedule's order."""
    blocks = ceil_div(size([x.extent for x in form.rows[:-1]]), schedule.block)
    count = panels(form, schedule)
    return [*[x.extent for x in form.outer], *([count, blocks] if schedule.panels_outer else [blocks, count])]


def emit_direct(kernel: Kernel, schedule: DirectSchedule, target: Target, module: Module, symbol: str, error_param: int | None = None) -> Emitted:
    """The function ``symbol`` for a lifted kernel whose ``match_contraction`` has bounds."""
    form = match_contraction(kernel)
    if form is None or not form.bounds or form.lanewise:
        raise InternalError(f"{kernel.name} has a schedule for borders but not their form")
    emitter = Direct(kernel, form, schedule, LLVMEmitter(module, symbol, kernel.buffers, target))
    emitter.em.error_param = error_param
    emitter.run()
    return Emitted(size(direct_extents(form, schedule)), 0)


class Direct(Gemm):
    """Emits one kernel."""

    def extents(self) -> list[int]:
        return direct_extents(self.form, self.schedule)  # type: ignore[arg-type]

    def _rows(self, block: Value, panel: Value, column: Value, masks: list[Value | None]) -> None:
        """The unit's runs, tile by tile; neighbouring tiles of one shape are a loop."""
        b, em, form, schedule = self.b, self.em, self.form, self.schedule
        count = em.size(size([x.extent for x in form.rows[:-1]]))
        first = b.mul(block, const("i64", schedule.block))
        last = b.intrinsic("llvm.smin", "i64", [b.add(first, const("i64", schedule.block)), count])
        base = b.gep(em.base(form.a.buffer.name), self._base(form.a_access), self.type)
        phases = phase_axes(form)
        with em.loop(None, first, last, hint="run", nonempty=True) as loop, contextlib.ExitStack() as stack:
            run = self._decoded(loop.index, form.rows[:-1])
            for axis, value in zip(form.rows[:-1], run):
                stack.enter_context(em.bound(axis, value))
            limits = {x: self._limits(x) for x in dict.fromkeys(x.k for x in self._uniform)}
            start = base
            for axis, value in zip(form.rows[:-1], run):
                start = b.gep(start, b.mul(value, em.size(form.a_access.coefficients[axis])), self.type)
            for values in product(*[range(x.extent) for x in phases]):
                here = None
                for x, n in zip(phases, values):
                    equal = b.icmp("eq", em.axes[x].value, const("i64", n))
                    here = equal if here is None else b.and_(here, equal)
                rounds = const("i64", 1) if here is None else b.convert("zext", here, "i64")
                with em.loop(None, const("i64", 0), rounds, hint="phase") if phases else contextlib.nullcontext():
                    self._tiles(dict(zip(phases, values)), run, start, limits, panel, column, masks)

    def _tiles(self, phases: dict[Axis, int], run: list[Value], start: Value, limits: dict[Axis, tuple], panel: Value, column: Value,
               masks: list[Value | None]) -> None:
        """One run, at known phases."""
        b, em, form = self.b, self.em, self.form
        tiles = [(x, shape_of(form, *x, phases)) for x in segments(form.rows[-1].extent if form.rows else 1, self.schedule.rows)]
        for shape, group in groupby(tiles, lambda t: t[1]):
            same = [t[0] for t in group]
            at, end = same[0][0], same[-1][0] + shape.rows
            with em.loop(None, const("i64", at), const("i64", end), shape.rows, hint="tile", nonempty=True) as tile:
                self._segment(shape, run, tile.index, b.gep(start, b.mul(tile.index, const("i64", self._along)), self.type), limits, panel, column, masks)

    @property
    def _along(self) -> int:
        """Elements of a between neighbours of a tile."""
        return self.form.a_access.coefficients[self.form.rows[-1]] if self.form.rows else 0

    @property
    def _uniform(self) -> list[Bound]:
        varying = segment_bounds(self.form)
        return [x for x in self.form.bounds if x not in varying]

    def _decoded(self, index: Value, axes: Sequence[Axis]) -> list[Value]:
        """The axes' values at a flat index over them."""
        b, out = self.b, []
        for x in reversed(axes[1:]):
            n = self.em.size(x.extent)
            q = b.binary("udiv", index, n)
            out.append(b.sub(index, b.mul(q, n)))
            index = q
        return [index, *reversed(out)] if axes else []

    def _limits(self, k: Axis) -> tuple[Value, Value]:
        """The rounds of ``k`` that the tile-wide bounds admit."""
        b, em = self.b, self.em
        first, last = const("i64", 0), em.size(k.extent)
        for x in self._uniform:
            if x.k is not k:
                continue
            rest = em.walk(x.rest)
            if x.step > 0:  # k >= ceil(-rest / step)
                least = b.intrinsic("llvm.smax", "i64", [b.sub(const("i64", x.step - 1), rest), const("i64", 0)])
                least = least if x.step == 1 else b.binary("udiv", least, const("i64", x.step))
                first = least if first.number == 0 else b.intrinsic("llvm.smax", "i64", [first, least])
            else:  # k < floor(rest / -step) + 1
                most = b.intrinsic("llvm.smax", "i64", [b.add(rest, const("i64", -x.step)), const("i64", 0)])
                most = most if x.step == -1 else b.binary("udiv", most, const("i64", -x.step))
                last = b.intrinsic("llvm.smin", "i64", [last, most])
        return first, last

    def _segment(self, shape: Shape, run: list[Value], first: Value, start: Value, limits: dict[Axis, tuple], panel: Value, column: Value,
                 masks: list[Value | None]) -> None:
        b, form, schedule = self.b, self.form, self.schedule
        inside: dict[Axis, tuple] = dict(limits)
        if shape.inside:
            inside[segment_bounds(form)[0].k] = shape.inside

        def where(at: Value, rows: Sequence[int]) -> list[Value]:
            here = b.gep(start, at, self.type)
            return [b.gep(here, const("i64", i * self._along), self.type) for i in rows]

        levels = levels_of(form, schedule, inside)
        sums = self.tile.accumulate(levels, shape.rows, where, panel, [None] * len(masks) if form.packed else masks)
        if sums is not None and self._is_small():
            for i in range(shape.rows):
                self._store_row([*run, b.add(first, const("i64", i))], sums[i * schedule.vectors: (i + 1) * schedule.vectors], column, masks)
            return
        if sums is not None:
            self.tile.spill(sums)
        with self.em.loop(None, const("i64", 0), const("i64", shape.rows), hint="out", nonempty=True) as loop:
            values = [b.load(self.tile.slot(loop.index, v), self.tile.vector, 64) for v in range(schedule.vectors)]
            self._store_row([*run, b.add(first, loop.index)], values, column, masks)
