"""The general emitter: machine code for any kernel. Templates (``gemm``, convolutions) are faster for the forms they recognise, never needed.

A kernel function computes the work units [begin, end): points of the grid (without the vector axis), or blocks of the vector axis. Each unit runs the stages in
order; ``plan`` says what is vectorised. Results do not depend on how units are split: partial sums follow extents alone.

* Grid indices of consecutive units are counted up with carries; only the first is divided out.
* Reductions: accumulators of several registers, chains of at most ``CHAIN`` float terms folded into a second level, tails by lane masks (or one
  by one where the target has none), masked lanes keep their accumulator, halves combined in a fixed tree at the end.
* Local tensors (stages with axes of their own that are read at other points) lie in the thread's scratch memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ....runtime.dim import Dim, ceil_div, size
from ....runtime.dtype import DType, float32
from ...kernel.access import access
from ...kernel.expr import Axis, Cast, Expr
from ...kernel.ir import Buffer, Contract, Kernel, Reduce, Stage, Store
from ...kernel.monoid import Dot, Monoid, Prod, Sum
from ...target import Target
from ..emit import placeholder
from .builder import Module, Value, const, constants, iota, lanes, vector
from .emitter import LLVMEmitter, Local
from .plan import LoopPlan, choose
from .scalars import register_type

CHAIN = 256
UNROLL = 16  # rounds of nested loops of small static extents that are written out


@dataclass(frozen=True)
class Emitted:
    """What a form's emitter gives: ``units`` of work, bytes of ``scratch`` per thread (both may be Dims over the lifted parameters)."""

    units: int
    scratch: int


def emit_loops(kernel: Kernel, target: Target, module: Module, symbol: str, error_param: int | None = None, plan: LoopPlan | None = None) -> Emitted:
    """Adds the function ``symbol`` for ``kernel`` (lifted) to ``module``."""
    return _Loops(kernel, target, module, symbol, error_param, plan or choose(kernel, target)).run()


class _Loops:
    def __init__(self, kernel: Kernel, target: Target, module: Module, symbol: str, error_param: int | None, plan: LoopPlan):
        self.kernel, self.target, self.plan = kernel, target, plan
        self.em = LLVMEmitter(module, symbol, kernel.buffers, target)
        self.em.error_param = error_param
        self.scratch: int = 0

    # -- the grid

    def run(self) -> Emitted:
        em, plan, b = self.em, self.plan, self.em.b
        outer = [a for a in self.kernel.axes if a is not plan.axis]
        extents: list[int] = [a.extent for a in outer]
        blocks: int = 1
        if plan.axis is not None and plan.block:
            blocks = ceil_div(plan.axis.extent, plan.block)
        if plan.axis is not None and plan.block and not outer and plan.block > plan.wide:
            # one long loop: the units of a call are neighbours
            n, step = em.size(plan.axis.extent), const("i64", plan.block)
            first, last = b.mul(em.begin, step), b.intrinsic("llvm.smin", "i64", [b.mul(em.end, step), n])
            self._vector_loops(plan.axis, first, last, self._stages)
        else:
            with self._units(outer, extents, blocks) as block:
                self._unit(block)
        b.ret()
        b.finish()
        return Emitted(size(extents) * blocks, self.scratch)

    @contextlib.contextmanager
    def _units(self, outer: Sequence[Axis], extents: Sequence[int], blocks: int) -> Iterator[Value | None]:
        """The loop over units: binds the axes of ``outer``; gives the block's number."""
        em, b = self.em, self.em.b
        digits = [*extents, *([blocks] if type(blocks) is Dim or blocks != 1 else [])]
        start: list[Value] = []
        if len(digits) > 1:
            rest = em.begin
            for n in reversed(digits[1:]):
                start.insert(0, b.binary("urem", rest, em.size(n)))
                rest = b.binary("udiv", rest, em.size(n))
            start.insert(0, rest)
        with em.loop(None, em.begin, em.end, state=start, hint="unit") as loop:
            values = loop.state if start else [loop.index][: len(digits)]
            with contextlib.ExitStack() as stack:
                for axis, v in zip(outer, values):
                    stack.enter_context(em.bound(axis, v))
                yield values[-1] if len(digits) > len(outer) else None
            following: list[Value] = []
            carry: Value | None = None
            for v, n in zip(reversed(values if start else []), reversed(digits)):
                bumped = b.add(v, const("i64", 1)) if carry is None else b.add(v, b.convert("zext", carry, "i64"))
                if len(following) < len(digits) - 1:
                    carry = b.icmp("eq", bumped, em.size(n))
                    bumped = b.select(carry, const("i64", 0), bumped)
                following.insert(0, bumped)
            loop.next(following)

    def _unit(self, block: Value | None) -> None:
        em, plan, b = self.em, self.plan, self.em.b
        if plan.axis is None:
            self._stages()
            return
        n = plan.axis.extent
        first, last = const("i64", 0), em.size(n)
        if block is not None:
            first = b.mul(block, const("i64", plan.block))
            last = b.intrinsic("llvm.smin", "i64", [b.add(first, const("i64", plan.block)), last])
        self._vector_loops(plan.axis, first, last, self._stages)

    def _vector_loops(self, axis: Axis, first: Value, last: Value, body: Callable[[], None]) -> None:
        """``body`` for every vector of [first, last): as wide as planned, then register by register, then what is left."""
        em, plan, b = self.em, self.plan, self.em.b
        at, end = first, last
        for width in dict.fromkeys((plan.wide, plan.lanes)):
            length = b.sub(end, at)
            if length.number is not None and length.number < width:
                continue
            stop = b.add(at, self._multiple(length, width))
            with em.loop(axis, at, stop, width, width):
                body()
            at = stop
        self._tail(axis, at, end, plan.lanes, body)

    def _multiple(self, length: Value, width: int) -> Value:
        """The greatest multiple of ``width`` (a power of two) that is <= ``length``."""
        n = length.number
        return const("i64", n - n % width) if n is not None else self.em.b.and_(length, const("i64", -width))

    def _tail(self, axis: Axis, at: Value, end: Value, width: int, body: Callable[[], None]) -> None:
        """Fewer than ``width`` elements: one masked vector, or one by one."""
        em, b = self.em, self.em.b
        left = b.sub(end, at)
        if left.number == 0:
            return
        if self.target.masks and left.number is not None:
            with em.inline(axis, at, width, self._mask(left, width)):
                body()
        elif self.target.masks:
            with em.loop(None, at, end, width, hint=f"{axis.name}.tail") as loop:
                with em.inline(axis, loop.index, width, self._mask(b.sub(end, loop.index), width)):
                    body()
        else:
            with em.loop(axis, at, end):
                body()

    def _mask(self, left: Value, width: int) -> Value:
        """Lanes below ``left`` (< 2^31)."""
        b = self.em.b
        t = vector("i32", width)
        n = left.number
        if n is not None:
            return constants(vector("i1", width), [i < n for i in range(width)])
        return b.icmp("slt", iota(t), b.splat(b.convert("trunc", left, "i32"), width))

    # -- stages

    def _stages(self) -> None:
        """All stages at the grid point(s) that are bound."""
        em = self.em
        saved = dict(em.locals)
        used = 0
        for i, st in enumerate(self.kernel.stages):
            axis = self.plan.inner[i] if self.plan.axis is None else None
            if isinstance(st, Store):
                self._compute_before_writing(i)
                self._store(st, axis)
            elif isinstance(st, Stage):
                used = self._stage(st, axis, used)
            else:
                used = self._reduce(st, axis, used)
        em.locals = saved

    def _nest(self, axes: Sequence[Axis], body: Callable[[], None], vector_axis: Axis | None = None) -> None:
        """Loops over ``axes``, in order, the vector axis (if any) innermost."""
        em = self.em
        if not axes:
            body()
            return
        axis, rest = axes[0], axes[1:]
        if axis is vector_axis and rest:
            self._nest([*rest, axis], body, vector_axis)
        elif axis is vector_axis:
            zero, n = const("i64", 0), em.size(axis.extent)
            width = self.plan.lanes
            if n.number is None or n.number >= width:
                stop = self._multiple(n, width)
                with em.loop(axis, zero, stop, width, width):
                    body()
                zero = stop
            self._tail(axis, zero, n, self._narrow(axis), body)
        else:
            with em.loop(axis, const("i64", 0), em.size(axis.extent)):
                self._nest(rest, body, vector_axis)

    def _narrow(self, axis: Axis) -> int:
        """Lanes of a masked tail: no more than needed."""
        width = self.plan.lanes
        if type(axis.extent) is not Dim:
            while width > 2 and width // 2 >= axis.extent % self.plan.lanes:
                width //= 2
        return width

    def _compute_before_writing(self, i: int) -> None:
        """Values of store i and of those right after it: one may be written where the next one's operand lies."""
        for st in self.kernel.stages[i:]:
            if not isinstance(st, Store) or st.combine is not None or st.over or st.axes:
                return
            self.em.walk(st.expr)
            if st.guard is not None:
                self.em.walk(st.guard)

    def _store(self, st: Store, axis: Axis | None) -> None:
        em = self.em
        if st.combine is not None or st.over:
            self._combine(st)
            return

        def body() -> None:
            value = em.walk(st.expr)
            condition = None if st.guard is None else em.walk(st.guard)
            em.store(st, value, condition)

        self._nest(st.axes, body, axis)

    def _combine(self, st: Store) -> None:
        """A scatter: each value joins what the buffer holds, in the order of the loops."""
        em, b = self.em, self.em.b
        dtype = st.buffer.dtype

        def body() -> None:
            value = em.walk(st.expr)
            condition = None if st.guard is None else em.walk(st.guard)
            if st.combine is None:
                em.store(st, value, condition)
                return

            def join() -> None:
                mask = condition if lane_condition else None
                a = access(st.buffer, st.index)
                t = em.scalars.memory_type(dtype)
                p = em.pointer(em.base(st.buffer.name), t, a)
                _, _, step, _ = em._offset(a)
                if em.vector is None:
                    old = em.scalars.from_memory(b.load(p, t), dtype)
                else:
                    old = em._vector_load(p, t, a, step, em.masked(mask), dtype)
                new = self._joined(st.combine, (old,), (em.full(value) if em.vector is not None else value,), (dtype,))[0]
                em._write(p, a, em.scalars.to_memory(new, dtype), mask)

            lane_condition = condition is not None and lanes(condition.type) > 1
            with b.when(condition, "joined") if condition is not None and not lane_condition else contextlib.nullcontext():
                join()

        self._nest((*st.axes, *st.over), body)

    def _stage(self, st: Stage, axis: Axis | None, used: int) -> int:
        em = self.em
        if not st.axes:
            value = em.walk(st.expr)
            vector_axis = em.vector if lanes(value.type) > 1 else None
            em.locals[st.name] = Local(em.level, [value], vector_axis=vector_axis)
            return used
        return self._to_memory(st.name, st.axes, [st.expr.dtype], lambda: [em.walk(st.expr)], axis, used)

    def _to_memory(self, name: str, axes: tuple[Axis, ...], dtypes: Sequence[DType], values: Callable[[], list[Value]], axis: Axis | None,
                   used: int) -> int:
        """Computes a local tensor into the scratch; in outer mode each element is a vector."""
        em, b = self.em, self.em.b
        width = em.lanes if em.vector is not None else 1
        buffers, offsets = [], []
        level, vector_axis = em.level, em.vector
        widest = self.plan.wide if self.plan.axis is not None else 1
        for i, d in enumerate(dtypes):
            wide = d if not (d.is_float and d.itemsize == 2) else float32
            buffer = Buffer(f"{name}.{i}", tuple(a.extent for a in axes), wide)
            buffers.append(buffer)
            offsets.append(used)
            nbytes = size(buffer.shape) * (wide.itemsize * widest)
            used = ceil_div(used + nbytes, 64) * 64
        self.scratch = used if type(used) is Dim or type(self.scratch) is Dim or used > self.scratch else self.scratch

        def body() -> None:
            for v, buffer, offset in zip(values(), buffers, offsets):
                raw = em.scalars.to_memory(v, buffer.dtype)
                a = access(buffer, axes)
                t = em.scalars.memory_type(buffer.dtype)
                p = em.pointer(em.scratch(offset), t, a, width)
                if width > 1:
                    b.store(em.full(raw), p)
                else:
                    em._write(p, a, raw, None)

        self._nest(axes, body, axis)
        em.locals[name] = Local(level, (), buffers, offsets, width, vector_axis)
        return used

    # -- reductions

    def _reduce(self, st: Reduce | Contract, axis: Axis | None, used: int) -> int:
        em = self.em
        monoid = st.monoid if isinstance(st, Reduce) else Dot(st.acc, st.precision)
        exprs = st.exprs if isinstance(st, Reduce) else (st.a, st.b)
        dtypes = monoid.state_dtypes(exprs)
        finished = monoid.dtypes(exprs)
        fold = _Fold(self, monoid, exprs, dtypes, st.over, axis if axis in st.over else None)
        if not st.axes:
            values = fold.run()
            em.locals[st.name] = Local(em.level, values, vector_axis=em.vector)
            return used
        return self._to_memory(st.name, st.axes, finished, fold.run, axis if axis not in st.over else None, used)

    def _joined(self, monoid: Monoid, x: Sequence[Value], y: Sequence[Value], dtypes: Sequence[DType]) -> list[Value]:
        """combine(x, y) of two states."""
        left = tuple(placeholder(f"l{i}", d) for i, d in enumerate(dtypes))
        right = tuple(placeholder(f"r{i}", d) for i, d in enumerate(dtypes))
        pairs = [*zip(left, x), *zip(right, y)]
        self.em.locals.update({e.stage: Local(self.em.level, [v]) for e, v in pairs})
        return self.em.walk.apply(monoid.combine(left, right), pairs)


class _Fold:
    """One reduction at the point(s) that are bound: loops over ``over``, ``vector_axis`` (of ``over``) in vectors, innermost."""

    def __init__(self, loops: _Loops, monoid: Monoid, exprs: tuple[Expr, ...], dtypes: Sequence[DType], over: tuple[Axis, ...], vector_axis: Axis | None):
        self.loops, self.em, self.b = loops, loops.em, loops.em.b
        self.monoid, self.exprs, self.dtypes = monoid, exprs, dtypes
        self.axes = [a for a in over if a is not vector_axis] + ([vector_axis] if vector_axis is not None else [])
        self.vector_axis = vector_axis
        self.folds = isinstance(monoid, (Sum, Dot, Prod)) and dtypes[0].is_float
        self.product = isinstance(monoid, Dot)
        lifted = monoid.lift(exprs) if not self.product else exprs
        self.terms = tuple(e if e.dtype is d else Cast(e, d) for e, d in zip(lifted, [dtypes[0]] * 2 if self.product else dtypes))

    def run(self) -> list[Value]:
        """The reduced state, finished: scalars, or vectors of the grid's vector axis."""
        em = self.em
        if self.vector_axis is not None:
            return self._run_vector()
        width = em.lanes if em.vector is not None and self._varies() else 1
        state = self._initial(width)
        if self._empty():
            return state
        state, _ = self._level(0, state, self._step)
        return state

    def _varies(self) -> bool:
        return self.em.vector is not None and any(self.em.varies(e) for e in self.terms)

    def _empty(self) -> bool:
        return any(type(a.extent) is not Dim and a.extent == 0 for a in self.axes)

    def _initial(self, width: int) -> list[Value]:
        return [const(vector(register_type(d), width), c.value) for d, c in zip(self.dtypes, self.monoid.init(self.exprs))]

    def _step(self, state: list[Value]) -> list[Value]:
        """Takes in the element(s) at the bound indices."""
        em, b = self.em, self.b
        width = lanes(state[0].type)
        values = [b.splat(v, width) if lanes(v.type) == 1 else v for v in map(em.walk, self.terms)]
        if self.product:
            if self.dtypes[0].is_float:
                new = [b.fma(values[0], values[1], state[0])]
            else:
                new = [b.binary("add", state[0], b.binary("mul", values[0], values[1]))]
        else:
            new = self.loops._joined(self.monoid, state, values, self.dtypes)
        mask = em.mask if em.vector is self.vector_axis and self.vector_axis is not None else None
        return new if mask is None else [b.select(mask, n, o) for n, o in zip(new, state)]

    def _join(self, x: Sequence[Value], y: Sequence[Value]) -> list[Value]:
        return self.loops._joined(self.monoid, x, y, self.dtypes)

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
        fresh = self._initial(lanes(state[0].type))
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

    def _run_vector(self) -> list[Value]:
        """Accumulators of several widths: wide vectors for the bulk, one register for the rest, scalars where tails have no masks."""
        em, b, loops = self.em, self.b, self.loops
        axis = self.vector_axis
        assert axis is not None
        n, register = axis.extent, loops.plan.lanes
        static = n if type(n) is int else None
        count = 4 if sum(d.itemsize for d in self.dtypes) <= 8 else 2
        while static is not None and count > 1 and static < 2 * count * register:
            count //= 2
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
        if self._empty():
            return self._initial(1)
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
                stop = b.add(at, loops._multiple(b.sub(end, at), w))
                if at.number is not None and at.number == stop.number:
                    continue
                state[w] = self._vectors(axis, at, stop, w, state[w])
                at = stop
            if tail:
                if masked:
                    with em.loop(None, at, end, register, state=state[register], hint=f"{axis.name}.tail") as loop:
                        with em.inline(axis, loop.index, register, loops._mask(b.sub(end, loop.index), register)):
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
        total: list[Value] | None = None
        for w in widths:
            part = self._horizontal(state[w])
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
