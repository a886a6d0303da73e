"""Sweeps: which stages of a kernel run in one loop nest.

Reductions, and stores with axes of their own, are *swept* over their axes. Stages over axes of equal extents share a sweep where none needs the other's
result: softmax is three sweeps of its row (maximum; exponentials and their sum; quotients), a layer normalisation three (sum; squares; result), the sums of a
value and of its square one. The axes of a sweep are the same objects for all its stages, and for all sweeps of equal extents, so that equal expressions are
the same object wherever they appear: computed once in a sweep, and kept from sweep to sweep where that is worth it (``keep``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ....runtime.dim import Dim, key, size
from ...kernel.expr import Axis, Expr, Load, Op, Ref, post_order, substitute
from ...kernel.ir import Contract, Kernel, Reduce, Stage, Store, stage_exprs, with_axes, with_exprs

DEAR = 8  # an expression that costs this many additions is kept from sweep to sweep rather than computed again
KEPT_BYTES = 1 << 18  # of the thread's memory for kept values (they stay in the second-level cache)


@dataclass(frozen=True)
class Step:
    """``stages`` (positions in the kernel) that run together over ``axes``; without axes a single stage at the grid point."""

    axes: tuple[Axis, ...]
    stages: tuple[int, ...]


def swept_axes(st: Stage | Reduce | Contract | Store) -> tuple[Axis, ...]:
    """The axes over which a stage may be swept with others; () for a stage that runs alone."""
    if isinstance(st, (Reduce, Contract)):
        return st.over if not st.axes else ()
    if isinstance(st, Store):
        return st.axes if st.combine is None and not st.over else ()
    return ()


def steps_of(kernel: Kernel) -> tuple[Kernel, tuple[Step, ...]]:
    """The kernel with the axes of its sweeps unified, and its steps in order. Stores stay behind all that comes before them."""
    kernel = _unify(kernel)
    steps: list[tuple[tuple[Axis, ...], list[int]]] = []
    ready: dict[str, int] = {}  # the step that gives a stage's result
    for i, st in enumerate(kernel.stages):
        axes = swept_axes(st)
        first = max((ready[e.stage] + 1 for e in post_order(stage_exprs(st)) if isinstance(e, Ref)), default=0)
        if isinstance(st, Store):  # nothing is written before what comes earlier has read: it may lie in the same memory
            first = max(first, len(steps) - 1)
        at = next((n for n in range(first, len(steps)) if axes and steps[n][0] == axes), None)
        if at is None:
            at = len(steps)
            steps.append((axes, []))
        steps[at][1].append(i)
        if not isinstance(st, Store):
            ready[st.name] = at
    return kernel, tuple([Step(axes, tuple(stages)) for axes, stages in steps])


def _unify(kernel: Kernel) -> Kernel:
    """Swept axes of equal extents become the axes of the first stage that has them."""
    first: dict[tuple, tuple[Axis, ...]] = {}
    stages = []
    for st in kernel.stages:
        axes = swept_axes(st)
        common = first.setdefault(tuple([key(a.extent) for a in axes]), axes)
        if any(a is not b for a, b in zip(axes, common)):
            mapping: dict[Expr, Expr] = dict(zip(axes, common))
            old = dict(zip(axes, common))
            st = with_axes(with_exprs(st, substitute(stage_exprs(st), mapping)), lambda xs, old=old: tuple([old.get(x, x) for x in xs]))
        stages.append(st)
    return replace(kernel, stages=tuple(stages))


def keep(kernel: Kernel, steps: tuple[Step, ...], width: int) -> tuple[Kernel, tuple[Step, ...]]:
    """Dear expressions that several sweeps need become local tensors of the first: the others read them. ``width``: elements of the grid's vector
    axis that are computed at once."""
    stages = list(kernel.stages)
    added: list[Stage] = []
    out = list(steps)
    room = KEPT_BYTES
    for n, step in enumerate(steps):
        later = [i for s in steps[n + 1:] if s.axes == step.axes for i in s.stages]
        points = size([a.extent for a in step.axes])
        if not step.axes or not later or type(points) is Dim:
            continue
        here = {id(e): e for i in step.stages for e in post_order(_values(stages[i]))}
        swept = set(step.axes)
        shared = _shared([e for i in later for e in _values(stages[i])], here, swept)
        for e in shared:
            nbytes = points * width * max(4, e.dtype.itemsize)
            if nbytes > room:
                continue
            room -= nbytes
            name = f"kept{len(added)}"
            ref = Ref(name, step.axes, e.dtype)
            for i in later:
                stages[i] = with_exprs(stages[i], substitute(stage_exprs(stages[i]), {e: ref}))
            out[n] = replace(out[n], stages=(*out[n].stages, len(kernel.stages) + len(added)))
            added.append(Stage(name, step.axes, e))
    return replace(kernel, stages=(*stages, *added)), tuple(out)


def _values(st: Stage | Reduce | Contract | Store) -> tuple[Expr, ...]:
    return (st.expr,) if isinstance(st, Store) else stage_exprs(st)


def _shared(roots: list[Expr], here: dict[int, Expr], axes: set[Axis]) -> list[Expr]:
    """The greatest dear expressions under ``roots`` that are computed ``here`` too and differ along ``axes``."""
    found: dict[int, Expr] = {}
    seen: set[int] = set()
    stack = list(reversed(roots))
    while stack:
        e = stack.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        if id(e) in here and e.dtype.is_float and _cost(e, axes) >= DEAR:
            found[id(e)] = e
        elif not isinstance(e, (Load, Ref)):
            stack.extend(reversed(e.children))
    return list(found.values())


def _cost(root: Expr, axes: set[Axis]) -> int:
    """Additions' worth of what differs along ``axes`` under ``root``; 0 where nothing does."""
    varies: dict[int, bool] = {}
    total = 0
    for e in post_order([root]):
        varies[id(e)] = e in axes if isinstance(e, Axis) else any(varies[id(c)] for c in e.children)
        if varies[id(e)] and isinstance(e, Op) and e.dtype.is_float:
            total += e.fn.cost
    return total if varies[id(root)] else 0
