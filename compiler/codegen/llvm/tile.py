"""The register tile of contractions: ``rows`` x ``vectors`` accumulators, summed over the reduction's levels of loops.

Per step of k: one vector load per column vector, one broadcast load per row, one FMA per accumulator; this reaches the FMA peak with
14 x 2, 8 x 3 or 6 x 4 registers on AVX-512. Sums are folded every ``chain`` terms into a tile in first-level cache, which keeps the error of long
sums near that of pairwise summation (design section 8).

A level may be bounded: its loop runs over [first, last) only (the taps of a window that lie inside the image, the same for all rows), or it is
written out and each of its rounds has the rows that take part (taps that lie inside for some pixels of the tile): what lies in the border is
neither read nor multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....runtime.dim import Dim
from ...kernel.expr import Axis
from ...schedule.contraction import ContractForm, GemmSchedule
from .builder import Value, const, size_of, vector
from .emitter import LLVMEmitter
from .scalars import register_type

AHEAD = 4096  # bytes by which a matrix-vector product prefetches its weights

Pointers = Callable[[Value, Sequence[int]], list[Value]]  # (offset of a, rows) -> where each of these rows' element lies


@dataclass(frozen=True)
class Level:
    """One loop of the reduction: its trip count, and the elements by which a and b advance. ``inside``: (first, last), or the rows of each round."""

    extent: int
    a: int
    b: int
    inside: tuple[Any, ...] = ()

    @property
    def rounds(self) -> tuple[tuple[int, ...], ...]:
        """The rows of each round, where the level is written out."""
        return self.inside if self.inside and isinstance(self.inside[0], tuple) else ()


def levels_of(form: ContractForm, schedule: GemmSchedule, inside: Mapping[Axis, tuple] | None = None) -> list[Level]:
    """The reduction's loops, slowest first, merged where both operands step through two as through one. ``inside``: of the axes that are bounded."""
    out: list[Level] = []
    step: int = schedule.columns
    for axis in reversed(form.k):
        a = form.a_access.coefficients.get(axis, 0)
        b = step if form.packed else form.b_access.coefficients.get(axis, 0)
        step = step * axis.extent
        inner = out[-1] if out else None
        limits = (inside or {}).get(axis, ())
        free = inner is not None and not inner.inside and not limits
        if free and inner is not None and same_size(a, inner.a * inner.extent) and same_size(b, inner.b * inner.extent):
            out[-1] = Level(inner.extent * axis.extent, inner.a, inner.b)
        else:
            out.append(Level(axis.extent, a, b, limits))
    return out[::-1]


def same_size(x: int, y: int) -> bool:
    if isinstance(x, Dim) or isinstance(y, Dim):
        return isinstance(x, Dim) and isinstance(y, Dim) and x.expr == y.expr
    return x == y


def positive(extent: int) -> bool:
    """Whether a trip count is known to be at least 1 (free dimensions are)."""
    if type(extent) is Dim:
        return all(c > 0 and all(isinstance(a, str) for a in m) for m, c in extent.expr)
    return extent > 0


class Tile:
    """Emits the sums of tiles of up to ``schedule.rows`` rows: in registers, or folded into ``memory`` where they are long."""

    def __init__(self, em: LLVMEmitter, form: ContractForm, schedule: GemmSchedule):
        b = em.b
        self.b, self.schedule, self.size, self.scalars = b, schedule, em.size, em.scalars
        self.type = register_type(form.contract.acc)
        self.dtype, self.panel = form.b.dtype, em.scalars.memory_type(form.b.dtype)  # of b
        self.vector = vector(self.type, schedule.lanes)
        self.memory = b.alloca(f"[{schedule.rows * schedule.vectors} x {self.vector}]")

    def _split(self, levels: Sequence[Level]) -> int | None:
        """The level from which on the sum fits one register chain; None where all of it does. A longer innermost loop is cut."""
        terms = 1
        for i in range(len(levels) - 1, -1, -1):
            extent = levels[i].extent
            if type(extent) is Dim or terms * extent > self.schedule.chain:
                return i + 1
            terms *= extent
        return None

    def slot(self, row: int | Value, v: int) -> Value:
        """Pointer to a vector of the tile in memory."""
        stride = self.schedule.vectors * self.schedule.lanes
        if isinstance(row, int):
            return self.b.gep(self.memory, const("i64", row * stride + v * self.schedule.lanes), self.type)
        return self.b.gep(self.memory, self.b.add(self.b.mul(row, const("i64", stride)), const("i64", v * self.schedule.lanes)), self.type)

    def accumulate(self, levels: Sequence[Level], rows: int, where: Pointers, panel: Value, masks: Sequence[Value | None]) -> list[Value] | None:
        """The accumulators of ``rows`` rows, or None where they were folded into ``memory``. ``panel``: b at this panel; ``masks`` per column vector
        where b is read unpacked beyond N."""
        b, zero = self.b, const("i64", 0)
        self.where, self.masks = where, masks
        active = tuple(range(rows))
        split = self._split(levels)
        if split is None:
            return self._nest(levels, active, zero, panel, self._zeros(active))
        for i in active:
            for v in range(self.schedule.vectors):
                b.store(const(self.vector, 0), self.slot(i, v), 64)
        self._folding(levels, split, active, zero, panel)
        return None

    def spill(self, sums: Sequence[Value]) -> None:
        """Puts accumulators into the tile's memory."""
        for n, s in enumerate(sums):
            self.b.store(s, self.slot(*divmod(n, self.schedule.vectors)), 64)

    def _zeros(self, active: Sequence[int]) -> list[Value]:
        return [const(self.vector, 0)] * (len(active) * self.schedule.vectors)

    def _moved(self, at: Value, panel: Value, level: Level, count: Value) -> tuple[Value, Value]:
        """Both operands ``count`` rounds of a level on."""
        b = self.b
        return b.add(at, b.mul(self.size(level.a), count)), b.gep(panel, b.mul(self.size(level.b), count), self.panel)

    def _range(self, level: Level, at: Value, panel: Value) -> tuple[Value, Value, Value, bool]:
        """(rounds, a and b at the first round, whether there is surely one) of a loop."""
        if not level.inside:
            return self.size(level.extent), at, panel, positive(level.extent)
        first, last = level.inside
        at, panel = self._moved(at, panel, level, first)
        return self.b.sub(last, first), at, panel, False

    def _folding(self, levels: Sequence[Level], split: int, active: Sequence[int], at: Value, panel: Value) -> None:
        """Loops above the split; below it a chain is summed in registers and added to the tile."""
        b = self.b
        if split == 0:
            self._add(active, self._nest(levels, active, at, panel, self._zeros(active)))
            return
        this = levels[0]
        if this.rounds:
            for q, rows in enumerate(this.rounds):
                if rows:
                    self._folding(levels[1:], split - 1, rows, *self._moved(at, panel, this, const("i64", q)))
            return
        count, at, panel, sure = self._range(this, at, panel)
        if len(levels) > 1:
            with b.loop(const("i64", 0), count, state=[at, panel], hint="k", nonempty=sure) as loop:
                a, p = loop.state
                self._folding(levels[1:], split - 1, active, a, p)
                loop.next(self._moved(a, p, this, const("i64", 1)))
            return
        chain = const("i64", self.schedule.chain)
        with b.loop(const("i64", 0), count, step=self.schedule.chain, state=[at, panel], hint="chain", nonempty=sure) as loop:
            left = b.sub(count, loop.index)
            terms = b.select(b.icmp("slt", left, chain), left, chain)
            a, p = loop.state
            self._add(active, self._steps(terms, this, active, a, p, self._zeros(active), True))
            loop.next(self._moved(a, p, this, chain))

    def _add(self, active: Sequence[int], sums: Sequence[Value]) -> None:
        for n, s in enumerate(sums):
            i, v = divmod(n, self.schedule.vectors)
            at = self.slot(active[i], v)
            self.b.store(self.b.fadd(self.b.load(at, self.vector, 64), s), at, 64)

    def _nest(self, levels: Sequence[Level], active: Sequence[int], at: Value, panel: Value, sums: list[Value]) -> list[Value]:
        b = self.b
        if not levels:
            return self._step(active, at, panel, sums)
        this = levels[0]
        if this.rounds:
            for q, rows in enumerate(this.rounds):
                picked = [active.index(r) * self.schedule.vectors + v for r in rows for v in range(self.schedule.vectors)]
                if picked:
                    a, p = self._moved(at, panel, this, const("i64", q))
                    new = self._nest(levels[1:], rows, a, p, [sums[i] for i in picked])
                    for i, s in zip(picked, new):
                        sums[i] = s
            return sums
        count, at, panel, sure = self._range(this, at, panel)
        if len(levels) == 1:
            return self._steps(count, this, active, at, panel, sums, sure)
        with b.loop(const("i64", 0), count, state=[at, panel, *sums], hint="k", nonempty=sure) as loop:
            a, p, *s = loop.state
            s = self._nest(levels[1:], active, a, p, s)
            loop.next([*self._moved(a, p, this, const("i64", 1)), *s])
        return loop.results[2:]

    def _steps(self, count: Value, this: Level, active: Sequence[int], at: Value, panel: Value, sums: list[Value], nonempty: bool) -> list[Value]:
        b = self.b
        with b.loop(const("i64", 0), count, state=[at, panel, *sums], hint="k", nonempty=nonempty) as loop:
            a, p, *s = loop.state
            s = self._step(active, a, p, s)
            loop.next([*self._moved(a, p, this, const("i64", 1)), *s])
        return loop.results[2:]

    def weights(self, pointer: Value, mask: Value | None) -> Value:
        """A vector of b in the type of the sums."""
        t = vector(self.panel, self.schedule.lanes)
        x = self.b.load(pointer, t) if mask is None else self.b.masked_load(pointer, mask, const(t, 0))
        return self.scalars.from_memory(x, self.dtype)

    def _step(self, active: Sequence[int], at: Value, panel: Value, sums: list[Value]) -> list[Value]:
        """One k: the column vectors of b, then each row's element of a times them."""
        b, lanes = self.b, self.schedule.lanes
        columns = []
        for v, mask in enumerate(self.masks):
            p = b.gep(panel, const("i64", v * lanes), self.panel)
            if self.schedule.rows == 1:  # each weight is used once: memory sets the pace, and the stream is known far ahead
                b.prefetch(b.gep(p, const("i64", AHEAD // size_of(self.panel)), self.panel))
            columns.append(self.weights(p, mask))
        out = []
        for i, pointer in enumerate(self.where(at, active)):
            x = b.splat(b.load(pointer, self.type), lanes)
            for v, column in enumerate(columns):
                out.append(b.fma(x, column, sums[i * self.schedule.vectors + v]))
        return out
