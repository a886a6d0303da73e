"""The order of calls, and which outputs may be written straight into donated memory.

A call that replaces a state input's memory must come after every reader of the old value. Where that makes a cycle, or where the call itself reads the
old value at another index than it writes, the new value gets memory of its own and a copy at the end moves it. Calls that write donated
memory come last, so that a failed check leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from ...runtime.dim import Dim, key
from ..kernel import simplify
from ..kernel.expr import Axis, Const, Expr, Load, post_order, substitute
from ..kernel.ir import Kernel, Reduce, Store, stage_exprs
from .program import Call, Program, Step, Value, readers


def order_calls(program: Program, copy: Callable[[Value, Value], Call]) -> None:
    """Puts ``program.calls`` in order and settles donation; ``copy(source, target)`` makes a copying call."""
    _settle_own_reads(program, copy)
    for _ in range(len(program.outputs) + 1):
        done, stuck = _schedule(program)
        if stuck is None:
            program.calls = done
            return
        _give_own_memory(program, stuck, copy)
    raise AssertionError("unreachable: every donated value has memory of its own by now")


def _give_own_memory(program: Program, value: Value, copy: Callable[[Value, Value], Call]) -> None:
    """``value`` is computed in the arena; a copy at the end writes the donated memory."""
    final = Value(value.shape, value.dtype, value.kind, value.index, value.donated)
    program.outputs[program.outputs.index(value)] = final
    value.kind, value.index, value.donated = "arena", -1, -1
    program.calls.append(copy(value, final))


def _settle_own_reads(program: Program, copy: Callable[[Value, Value], Call]) -> None:
    for call in list(program.calls):
        for value in call.writes:
            if value.donated >= 0 and not in_place(call, program.inputs[value.donated], value):
                _give_own_memory(program, value, copy)


def in_place(call: Step, old: Value, new: Value) -> bool:
    """Whether ``call`` reads ``old`` only at the element of ``new`` that it then writes (or not at all)."""
    if old not in call.reads:
        return True
    if not isinstance(call, Call) or not isinstance(call.kernel, Kernel):
        return False
    kernel = call.kernel
    names = {b.name for b, v in zip(kernel.buffers, call.values) if v is old}
    written = {b.name for b, v in zip(kernel.buffers, call.values) if v is new}
    stores = [s for s in kernel.stages if isinstance(s, Store) and s.buffer.name in written]
    if len(stores) != 1 or stores[0].combine is not None:
        return False
    store = stores[0]
    for stage in kernel.stages:
        if isinstance(stage, Store):
            mapping: dict[Expr, Expr] = {}
        elif isinstance(stage, Reduce) and not stage.axes and key(_extents(stage.over)) == key(_extents(store.axes)):
            mapping = dict(zip(stage.over, store.axes))  # a row is written after all of it was read
        else:
            mapping = {}
        for e in post_order(stage_exprs(stage)):
            if isinstance(e, Load) and e.buffer.name in names:
                at = substitute(e.index, mapping)
                swept = isinstance(stage, Store) or bool(mapping)
                if not swept or len(at) != len(store.index) or any(not _same(a, b) for a, b in zip(at, store.index)):
                    return False
    return True


def _extents(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    return tuple([a.extent for a in axes])


def _same(a: Expr, b: Expr) -> bool:
    difference = simplify.sub(a, b)
    return isinstance(difference, Const) and type(difference.value) is not Dim and difference.value == 0


def _schedule(program: Program) -> tuple[list[Step], Value | None]:
    """Calls in an order that respects data and donation, donated writes as late as they may; or a donated value in the way."""
    calls = program.calls
    position = {c: i for i, c in enumerate(calls)}
    writer = {v: c for c in calls for v in c.writes}
    reads = readers(calls)
    before: dict[Step, set[Step]] = {c: {writer[v] for v in c.reads if v in writer} - {c} for c in calls}
    for c in calls:
        for v in c.writes:
            if v.donated >= 0:
                before[c] |= {r for r in reads.get(program.inputs[v.donated], ()) if r is not c}
    donating = {c for c in calls if any(v.donated >= 0 for v in c.writes)}
    after: dict[Step, list[Step]] = {c: [] for c in calls}
    waiting = {c: len(b) for c, b in before.items()}
    for c, b in before.items():
        for p in b:
            after[p].append(c)
    ready = [(c in donating, position[c], c) for c in calls if not waiting[c]]
    heapify(ready)
    done: list[Step] = []
    while ready:
        _, _, c = heappop(ready)
        done.append(c)
        for n in after[c]:
            waiting[n] -= 1
            if not waiting[n]:
                heappush(ready, (n in donating, position[n], n))
    if len(done) == len(calls):
        return done, None
    left = [c for c in calls if waiting[c]]
    stuck = next(v for c in left if c in donating for v in c.writes if v.donated >= 0)
    return done, stuck
