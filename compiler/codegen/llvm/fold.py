"""One sweep: the loop nest in which reductions take in their elements, and stores and local tensors are written along the way.

Accumulators of several registers; chains of at most ``CHAIN`` float terms, folded into a second level; tails by lane masks (or one by one where the target
has none), masked lanes keep their accumulator; lanes are joined in a fixed tree at the end. All of it follows from extents alone. A short row is written out in
full (``kept``): the values of each of its vectors stay in registers from sweep to sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ....runtime.dim import Dim
from ....runtime.dtype import DType
from ...kernel.expr import Axis, Cast, Expr
from ...kernel.ir import Contract, Reduce
from ...kernel.monoid import Dot, Max, Min, Monoid, Prod, Sum
from .builder import Value, const, lanes, vector
from .scalars import register_type

if TYPE_CHECKING:
    from .loops import Loops

CHAIN = 256
UNROLL = 16  # rounds of nested loops of small static extents that are written out
CHAINS = 4  # accumulators of a reduction over a row that is written out


class Part:
    """One reduction of a sweep: the terms it takes in at each point, and its state."""

    def __init__(self, st: Reduce | Contract):
        self.monoid: Monoid = st.monoid if isinstance(st, Reduce) else Dot(st.acc, st.precision)
        self.exprs: tuple[Expr, ...] = st.exprs if isinstance(st, Reduce) else (st.a, st.b)
        self.dtypes: Sequence[DType] = self.monoid.state_dtypes(self.exprs)
        self.folds = isinstance(self.monoid, (Sum, Dot, Prod)) and self.dtypes[0].is_float
        self.product = isinstance(self.monoid, Dot)
        self.extreme = isinstance(self.monoid, (Max, Min)) and self.dtypes[0].is_float
        lifted = self.exprs if self.product else self.monoid.lift(self.exprs)
        self.terms = tuple(e if e.dtype is d else Cast(e, d) for e, d in zip(lifted, [self.dtypes[0]] * 2 if self.product else self.dtypes))


Effect = Callable[[], Callable[[], None]]  # computes what it needs at the bound point, and gives what writes it


class Fold:
    """``parts`` and ``effects`` at every point of ``over``; ``vector_axis`` (of ``over``) in vectors, innermost."""

    def __init__(self, loops: Loops, parts: Sequence[Part], effects: Sequence[Effect], over: tuple[Axis, ...], vector_axis: Axis | None, kept: bool = False):
        self.loops, self.em, self.b = loops, loops.em, loops.em.b
        self.parts, self.effects = parts, effects
        self.axes = [a for a in over if a is not vector_axis] + ([vector_axis] if vector_axis is not None else [])
        self.vector_axis = vector_axis
        self.kept = kept
        self.unordered: dict[Part, list[Value]] | None = None  # of a row written out: where its elements are nan, for extremes
        self.folds = any(p.folds for p in parts)
        self.dtypes = [d for p in parts for d in p.dtypes]

    def run(self) -> list[list[Value]]:
        """The finished state of every part: scalars, or vectors of the grid's vector axis."""
        if self.vector_axis is not None:
            return self._by_part(self._run_vector())
        widths = [self.em.lanes if self._varies(p) else 1 for p in self.parts]
        state = self._initial(widths)
        if not self._empty():
            state, _ = self._level(0, state, self._step)
        return self._by_part(state)

    def _by_part(self, state: Sequence[Value]) -> list[list[Value]]:
        out, at = [], 0
        for p in self.parts:
            out.append(list(state[at: at + len(p.dtypes)]))
            at += len(p.dtypes)
        return out

    def _varies(self, p: Part) -> bool:
        return self.em.vector is not None and any(self.em.varies(e) for e in p.terms)

    def _empty(self) -> bool:
        return any(type(a.extent) is not Dim and a.extent == 0 for a in self.axes)

    def _initial(self, widths: int | Sequence[int]) -> list[Value]:
        """Neutral states, of so many lanes each part."""
        each = [widths] * len(self.parts) if isinstance(widths, int) else widths
        return [const(vector(register_type(d), w), c.value) for p, w in zip(self.parts, each) for d, c in zip(p.dtypes, p.monoid.init(p.exprs))]

    def _like(self, state: Sequence[Value]) -> list[Value]:
        """Neutral states, as wide as these."""
        return self._initial([lanes(s[0].type) for s in self._by_part(state)])

    def _step(self, state: list[Value]) -> list[Value]:
        """Takes in the element(s) at the bound indices. Everything is computed before anything is written."""
        em, b = self.em, self.b
        writes = [effect() for effect in self.effects]
        mask = em.mask if em.vector is self.vector_axis and self.vector_axis is not None else None
        out: list[Value] = []
        for p, old in zip(self.parts, self._by_part(state)):
            width = lanes(old[0].type)
            values = [b.splat(v, width) if lanes(v.type) == 1 else v for v in map(em.walk, p.terms)]
            if not p.product:
                new = self._joined(p, old, values)
                if p.extreme and self.unordered is not None:
                    nan = b.fcmp("uno", values[0], values[0])
                    self.unordered[p].append(nan if mask is None else b.and_(nan, mask))
            elif p.dtypes[0].is_float:
                new = [b.fma(values[0], values[1], old[0])]
            else:
                new = [b.binary("add", old[0], b.binary("mul", values[0], values[1]))]
            out.extend(new if mask is None else [b.select(mask, n, o) for n, o in zip(new, old)])
        for write in writes:
            write()
        return out

    def _join(self, x: Sequence[Value], y: Sequence[Value]) -> list[Value]:
        return [v for p, a, c in zip(self.parts, self._by_part(x), self._by_part(y)) for v in self._joined(p, a, c)]

    def _joined(self, p: Part, x: Sequence[Value], y: Sequence[Value]) -> list[Value]:
        """combine(x, y). Where ``unordered`` tells of nan, extremes don't: one instruction instead of three, in the longest chain of a softmax."""
        if self.unordered is None or not p.extreme:
            return self.loops.joined(p.monoid, x, y, p.dtypes)
        return [self.b.select(self.b.fcmp("ogt" if isinstance(p.monoid, Max) else "olt", x[0], y[0]), x[0], y[0])]

    def _level(self, i: int, state: list[Value], innermost: Callable[[list[Value]], list[Value]], inner_chain: int = 1) -> tuple[list[Value], int]:
        """Loops over axes[i:]; gives the state and how many terms one accumulator took in a row."""
        em, b = self.em, self.b
        axes = self.axes if self.vector_axis is None else self.axes[:-1]
        if i == len(axes):
            return innermost(state), inner_chain
        axis = axes[i]
        n = axis.extent
        if type(n) is int and n * self._rounds(axes[i + 1:]) <= UNROLL:
            chain = 1
            for j in range(n):
                with em.inline(axis, const("i64", j)):
                    state, chain = self._level(i + 1, state, innermost, inner_chain)
            return state, chain * n
        below = self._chain(axes[i + 1:], inner_chain)
        trips = n if type(n) is int else 1 << 40
        end = em.size(n)
        if not self.folds or below * trips <= CHAIN:
            with em.loop(axis, const("i64", 0), end, state=state) as loop:
                new, _ = self._level(i + 1, loop.state, innermost, inner_chain)
                loop.next(new)
            return loop.results, below * trips
        # two levels: a fresh accumulator per chunk, joined to the outer one
        chunk = max(1, CHAIN // below)
        fresh = self._like(state)
        with em.loop(None, const("i64", 0), end, chunk, state=state, hint=f"{axis.name}.chunk") as outer:
            if chunk == 1:
                with em.inline(axis, outer.index):
                    part, _ = self._level(i + 1, fresh, innermost, inner_chain)
            else:
                stop = b.intrinsic("llvm.smin", "i64", [b.add(outer.index, const("i64", chunk)), end])
                with em.loop(axis, outer.index, stop, state=fresh, nonempty=True) as loop:
                    new, _ = self._level(i + 1, loop.state, innermost, inner_chain)
                    loop.next(new)
                part = loop.results
            outer.next(self._join(outer.state, part))
        return outer.results, 1

    def _rounds(self, axes: Sequence[Axis]) -> int:
        out = 1
        for a in axes:
            out = out * (a.extent if type(a.extent) is int else 1 << 40)
        return out if self.vector_axis is None else 1 << 40

    def _chain(self, axes: Sequence[Axis], inner_chain: int) -> int:
        """Terms in a row below: a level that folds starts anew."""
        chain = inner_chain
        for a in reversed(axes):
            trips = a.extent if type(a.extent) is int else 1 << 40
            chain = chain * trips if chain * trips <= CHAIN or not self.folds else 1
        return chain

    # -- along the vector axis

    def _registers(self, static: int | None) -> int:
        """Registers that each accumulator, and each written value, has: independent chains hide latencies, as far as registers reach."""
        register, budget = self.loops.plan.lanes, self.loops.target.registers // 2
        state = max(1, -(-sum(d.itemsize for d in self.dtypes) // 4))
        count = 4
        while count > 1 and count * state > budget:
            count //= 2
        while static is not None and count > 1 and static < 2 * count * register:
            count //= 2
        return count

    def _run_vector(self) -> list[Value]:
        """Accumulators of several widths: wide vectors for the bulk, one register for the rest, scalars where tails have no masks."""
        em, b, loops = self.em, self.b, self.loops
        axis = self.vector_axis
        assert axis is not None
        if self._empty():
            return self._initial(1)
        n, register = axis.extent, loops.plan.lanes
        static = n if type(n) is int else None
        if self.kept and static is not None:
            return self._written_out(axis, static)
        count = self._registers(static)
        wide = register * count
        widths: list[int] = []
        if static is None or static >= wide:
            widths.append(wide)
        rest = None if static is None else static % wide
        if count > 1 and (rest is None or rest >= register):
            widths.append(register)
        left = None if static is None else static % register
        masked = loops.target.masks
        tail = 0 if left == 0 else register if masked else 1
        if tail and tail not in widths:
            widths.append(tail)
        groups = {w: self._initial(w) for w in widths}
        flat = [v for w in widths for v in groups[w]]
        size_ = len(self.dtypes)

        def split(values: Sequence[Value]) -> dict[int, list[Value]]:
            return {w: list(values[k * size_: (k + 1) * size_]) for k, w in enumerate(widths)}

        def along(values: list[Value]) -> list[Value]:
            state = split(values)
            at, end = const("i64", 0), em.size(n)
            for w in (wide, register) if count > 1 else (wide,):
                if w not in state or (w == register and w != wide and rest is not None and rest < register):
                    continue
                stop = b.add(at, loops.multiple(b.sub(end, at), w))
                if at.number is not None and at.number == stop.number:
                    continue
                state[w] = self._vectors(axis, at, stop, w, state[w])
                at = stop
            if tail:
                if masked and left is not None:
                    with em.inline(axis, at, register, loops.mask(const("i64", left), register)):
                        state[register] = self._step(state[register])
                elif masked:
                    with em.loop(None, at, end, register, state=state[register], hint=f"{axis.name}.tail") as loop:
                        with em.inline(axis, loop.index, register, loops.mask(b.sub(end, loop.index), register)):
                            loop.next(self._step(loop.state))
                    state[register] = loop.results
                else:
                    with em.loop(axis, at, end, state=state[1]) as loop:
                        loop.next(self._step(loop.state))
                    state[1] = loop.results
            return [v for w in widths for v in state[w]]

        if len(self.axes) == 1:
            flat = along(flat)
        else:
            # A run over the vector axis is one term of the loops around it: partial sums start anew where runs are long.
            flat = self._outer_levels(0, flat, along, split, widths)
        state = split(flat)
        return self._joined_lanes([state[w] for w in widths])

    def _written_out(self, axis: Axis, n: int) -> list[Value]:
        """Every vector of a short row, each in a scope that lasts from sweep to sweep."""
        register, masked = self.loops.plan.lanes, self.loops.target.masks
        places = [(at, register) for at in range(0, n - n % register, register)]
        whole = n - n % register
        places += [(whole, register)] if masked and n > whole else [(at, 1) for at in range(whole, n)]
        if masked:
            self.unordered = {p: [] for p in self.parts}
        states: dict[tuple[int, int], list[Value]] = {}
        for k, (at, width) in enumerate(places):
            left = const("i64", n - at)
            with self.loops.place(axis, at, width, self.loops.mask(left, width) if n - at < width else None):
                chain = (width, k % CHAINS)
                states[chain] = self._step(states.get(chain) or self._initial(width))
        out = self._joined_lanes(list(states.values()))
        for k, p in enumerate(self.parts) if masked else ():
            if p.extreme:
                out[self._at(k)] = self._or_nan(p, out[self._at(k)])
        return out

    def _at(self, k: int) -> int:
        return sum(len(p.dtypes) for p in self.parts[:k])

    def _or_nan(self, p: Part, x: Value) -> Value:
        """``x``, or nan where an element was."""
        assert self.unordered is not None
        b, seen = self.b, self.unordered[p]
        while len(seen) > 1:  # all of one width: where rows are written out, tails are masked
            seen = [b.or_(m, n) for m, n in zip(seen[::2], seen[1::2])] + ([seen[-1]] if len(seen) % 2 else [])
        return b.select(b.any(seen[0]), const(x.type, float("nan")), x)

    def _joined_lanes(self, states: list[list[Value]]) -> list[Value]:
        """States of several widths as one state of one lane: neighbours of equal width first, then lane by lane, in a fixed tree."""
        if not self.parts:
            return []
        total: list[Value] | None = None
        while states:
            equal = [s for s in states if lanes(s[0].type) == lanes(states[0][0].type)]
            states = states[len(equal):]
            while len(equal) > 1:
                equal = [self._join(x, y) for x, y in zip(equal[::2], equal[1::2])] + ([equal[-1]] if len(equal) % 2 else [])
            part = self._horizontal(equal[0])
            total = part if total is None else self._join(total, part)
        assert total is not None
        return total

    def _outer_levels(self, i: int, flat: list[Value], along: Callable, split: Callable, widths: list[int]) -> list[Value]:
        """Loops around the vector axis. Each run along it starts with fresh accumulators where chains could get long."""
        em = self.em
        axes = self.axes[:-1]
        if i == len(axes):
            if not self.folds:
                return along(flat)
            fresh = [v for w in widths for v in self._initial(w)]
            part, old = split(along(fresh)), split(flat)
            return [v for w in widths for v in self._join(old[w], part[w])]
        axis = axes[i]
        n = axis.extent
        end = em.size(n)
        chunk = CHAIN if self.folds and (type(n) is Dim or n > CHAIN) else 0
        if not chunk:
            with em.loop(axis, const("i64", 0), end, state=flat) as loop:
                loop.next(self._outer_levels(i + 1, loop.state, along, split, widths))
            return loop.results
        b = self.b
        with em.loop(None, const("i64", 0), end, chunk, state=flat, hint=f"{axis.name}.chunk") as outer:
            stop = b.intrinsic("llvm.smin", "i64", [b.add(outer.index, const("i64", chunk)), end])
            fresh = [v for w in widths for v in self._initial(w)]
            with em.loop(axis, outer.index, stop, state=fresh, nonempty=True) as loop:
                loop.next(self._outer_levels(i + 1, loop.state, along, split, widths))
            part, old = split(loop.results), split(outer.state)
            outer.next([v for w in widths for v in self._join(old[w], part[w])])
        return outer.results

    def _vectors(self, axis: Axis, at: Value, stop: Value, width: int, state: list[Value]) -> list[Value]:
        """Full vectors of [at, stop), in chains of at most CHAIN."""
        em, b = self.em, self.b
        long = self.folds and not (at.number is not None and stop.number is not None and (stop.number - at.number) // width <= CHAIN)
        if not long:
            with em.loop(axis, at, stop, width, width, state=state) as loop:
                loop.next(self._step(loop.state))
            return loop.results
        chunk = CHAIN * width
        with em.loop(None, at, stop, chunk, state=state, hint=f"{axis.name}.chunk") as outer:
            end = b.intrinsic("llvm.smin", "i64", [b.add(outer.index, const("i64", chunk)), stop])
            with em.loop(axis, outer.index, end, width, width, state=self._initial(width), nonempty=True) as loop:
                loop.next(self._step(loop.state))
            outer.next(self._join(outer.state, loop.results))
        return outer.results

    def _horizontal(self, state: list[Value]) -> list[Value]:
        """Joins the lanes: halves, then halves of halves."""
        b = self.b
        while lanes(state[0].type) > 1:
            half = lanes(state[0].type) // 2
            low = [b.shuffle(v, None, range(half)) for v in state]
            high = [b.shuffle(v, None, range(half, 2 * half)) for v in state]
            state = self._join(low, high)
        return state
