"""The general emitter: machine code for any kernel. Templates (``gemm``, convolutions) are faster for the forms they recognise, never needed.

A kernel function computes the work units [begin, end): points of the grid (without the vector axis), or blocks of the vector axis. Each unit runs the stages in
order; ``plan`` says what is vectorised. Results do not depend on how units are split: partial sums follow extents alone.

* Grid indices of consecutive units are counted up with carries; only the first is divided out.
* Stages over equal axes run in one loop nest (``sweeps``, ``fold``).
* Local tensors (stages with axes of their own that are read at other points) lie in the thread's scratch memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ....runtime.dim import Dim, ceil_div, size
from ....runtime.dtype import DType, float32
from ...kernel.access import access
from ...kernel.expr import Axis
from ...kernel.ir import Buffer, Contract, Kernel, Reduce, Stage, Store
from ...kernel.monoid import Monoid
from ...target import Target
from ..emit import placeholder
from .builder import Module, Value, const, constants, iota, lanes, vector
from .emitter import LLVMEmitter, Local, Scope
from .fold import Effect, Fold, Part
from .plan import LoopPlan, choose
from .sweeps import Step


@dataclass(frozen=True)
class Emitted:
    """What a form's emitter gives: ``units`` of work, bytes of ``scratch`` per thread (both may be Dims over the lifted parameters)."""

    units: int
    scratch: int


def emit_loops(kernel: Kernel, target: Target, module: Module, symbol: str, error_param: int | None = None, plan: LoopPlan | None = None) -> Emitted:
    """Adds the function ``symbol`` for ``kernel`` (lifted) to ``module``."""
    return Loops(kernel, target, module, symbol, error_param, plan or choose(kernel, target)).run()


class Loops:
    def __init__(self, kernel: Kernel, target: Target, module: Module, symbol: str, error_param: int | None, plan: LoopPlan):
        self.kernel, self.target, self.plan = plan.kernel, target, plan
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
            stop = b.add(at, self.multiple(length, width))
            with em.loop(axis, at, stop, width, width):
                body()
            at = stop
        self._tail(axis, at, end, plan.lanes, body)

    def multiple(self, length: Value, width: int) -> Value:
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
            with em.inline(axis, at, width, self.mask(left, width)):
                body()
        elif self.target.masks:
            with em.loop(None, at, end, width, hint=f"{axis.name}.tail") as loop:
                with em.inline(axis, loop.index, width, self.mask(b.sub(end, loop.index), width)):
                    body()
        else:
            with em.loop(axis, at, end):
                body()

    def mask(self, left: Value, width: int) -> Value:
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
        self.places: dict[tuple[Axis, int], Scope] = {}
        for n, step in enumerate(self.plan.steps):
            axis = self.plan.inner[n] if self.plan.axis is None else None
            st = self.kernel.stages[step.stages[0]]
            if step.axes:
                used = self._sweep(step, axis, used)
            elif isinstance(st, Store):
                self._compute_before_writing(n)
                self._store(st)
            elif isinstance(st, Stage):
                used = self._stage(st, axis, used)
            else:
                used = self._reduce(st, axis, used)
        em.locals = saved

    @contextlib.contextmanager
    def place(self, axis: Axis, at: int, width: int, mask: Value | None) -> Iterator[None]:
        """The scope of a vector of a row that is written out: what one sweep computed there the next one finds."""
        scope = self.places.setdefault((axis, at), Scope(self.em, self.em.scopes[-1].cursor))
        with self.em.within(scope, axis, const("i64", at), width, mask):
            yield

    def _sweep(self, step: Step, axis: Axis | None, used: int) -> int:
        """All stages of a step in one loop nest; results of reductions are locals afterwards."""
        em = self.em
        stages = [self.kernel.stages[i] for i in step.stages]
        reduces = [s for s in stages if isinstance(s, (Reduce, Contract))]
        effects: list[Effect] = []
        for s in stages:
            if isinstance(s, Store):
                effects.append(lambda s=s: self._storing(s))
            elif isinstance(s, Stage):
                local, used = self._memory(s.axes, [s.expr.dtype], used)
                effects.append(lambda s=s, local=local: self._keeping(s.axes, [em.walk(s.expr)], local))
                em.locals[s.name] = local
        results = Fold(self, [Part(s) for s in reduces], effects, step.axes, axis, self.plan.kept).run()
        for s, values in zip(reduces, results):
            em.locals[s.name] = Local(em.level, values, vector_axis=em.vector)
        return used

    def _storing(self, st: Store) -> Callable[[], None]:
        em = self.em
        value = em.walk(st.expr)
        condition = None if st.guard is None else em.walk(st.guard)
        return lambda: em.store(st, value, condition)

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
                stop = self.multiple(n, width)
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
        """Values of the store of step i and of those right after it: one may be written where the next one's operand lies."""
        for step in self.plan.steps[i:]:
            st = self.kernel.stages[step.stages[0]]
            if not isinstance(st, Store) or st.combine is not None or st.over or st.axes:
                return
            self.em.walk(st.expr)
            if st.guard is not None:
                self.em.walk(st.guard)

    def _store(self, st: Store) -> None:
        if st.combine is not None or st.over:
            self._combine(st)
        else:
            self._storing(st)()

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

            a = access(st.buffer, st.index)
            t = em.scalars.memory_type(dtype)
            p = em.pointer(em.base(st.buffer.name), t, a)  # outside the branch: later stores may share parts of the address
            _, _, step, _ = em._offset(a)

            def join() -> None:
                mask = condition if lane_condition else None
                if em.vector is None:
                    old = em.scalars.from_memory(b.load(p, t), dtype)
                else:
                    old = em._vector_load(p, t, a, step, em.masked(mask), dtype)
                new = self.joined(st.combine, (old,), (em.full(value) if em.vector is not None else value,), (dtype,))[0]
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
        local, used = self._memory(axes, dtypes, used)
        self._nest(axes, lambda: self._keeping(axes, values(), local)(), axis)
        self.em.locals[name] = local
        return used

    def _memory(self, axes: tuple[Axis, ...], dtypes: Sequence[DType], used: int) -> tuple[Local, int]:
        """Room in the thread's scratch for a local tensor."""
        em = self.em
        width = em.lanes if em.vector is not None else 1
        buffers, offsets = [], []
        widest = self.plan.wide if self.plan.axis is not None else 1
        for i, d in enumerate(dtypes):
            wide = d if not (d.is_float and d.itemsize == 2) else float32
            buffer = Buffer(f"local.{i}", tuple(a.extent for a in axes), wide)
            buffers.append(buffer)
            offsets.append(used)
            nbytes = size(buffer.shape) * (wide.itemsize * widest)
            used = ceil_div(used + nbytes, 64) * 64
        self.scratch = used if type(used) is Dim or type(self.scratch) is Dim or used > self.scratch else self.scratch
        return Local(em.level, (), buffers, offsets, width, em.vector), used

    def _keeping(self, axes: tuple[Axis, ...], values: Sequence[Value], local: Local) -> Callable[[], None]:
        """What writes the element(s) of a local tensor at the bound point."""
        em, b = self.em, self.em.b

        def write() -> None:
            for v, buffer, offset in zip(values, local.buffers, local.offsets):
                raw = em.scalars.to_memory(v, buffer.dtype)
                a = access(buffer, axes)
                t = em.scalars.memory_type(buffer.dtype)
                p = em.pointer(em.scratch(offset), t, a, local.width)
                if local.width > 1:
                    b.store(em.full(raw), p)
                else:
                    em._write(p, a, raw, None)

        return write

    # -- reductions

    def _reduce(self, st: Reduce | Contract, axis: Axis | None, used: int) -> int:
        """A reduction that runs alone: over nothing, or for every point of axes of its own."""
        em = self.em
        part = Part(st)
        fold = Fold(self, [part], (), st.over, axis if axis in st.over else None)
        if not st.axes:
            em.locals[st.name] = Local(em.level, fold.run()[0], vector_axis=em.vector)
            return used
        return self._to_memory(st.name, st.axes, part.monoid.dtypes(part.exprs), lambda: fold.run()[0], axis if axis not in st.over else None, used)

    def joined(self, monoid: Monoid, x: Sequence[Value], y: Sequence[Value], dtypes: Sequence[DType]) -> list[Value]:
        """combine(x, y) of two states."""
        left = tuple(placeholder(f"l{i}", d) for i, d in enumerate(dtypes))
        right = tuple(placeholder(f"r{i}", d) for i, d in enumerate(dtypes))
        pairs = [*zip(left, x), *zip(right, y)]
        self.em.locals.update({e.stage: Local(self.em.level, [v]) for e, v in pairs})
        return self.em.walk.apply(monoid.combine(left, right), pairs)
