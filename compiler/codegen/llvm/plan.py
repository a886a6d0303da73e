"""How the general emitter runs a kernel: which axis is the vector axis, how wide, what a work unit is. Decided by access strides and static extents alone.

``outer``: one grid axis is the vector axis of every stage, so that reductions run once per vector of outputs (pointwise kernels, column sums, pooling over
channels-last windows). ``inner`` (``axis`` None): grid points go one by one and each stage has a vector axis of its own, of those it loops over
(softmax, layer norm, row sums). Where nothing lies contiguous the cheaper of the two still wins; a kernel of scalars stays scalar.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log2

from ....runtime.dim import Dim
from ...kernel.access import access
from ...kernel.expr import Axis, Expr, Load, post_order
from ...kernel.ir import Contract, Kernel, Reduce, Store, stage_exprs
from ...target import Target
from .sweeps import Step, keep, steps_of

GUESS = 64  # an extent that is known only at run time, when costs are compared
BLOCK_BYTES = 8192  # of the widest element, per work unit of a kernel that is one long loop
WIDE = 4  # registers per accumulator in reductions


@dataclass(frozen=True)
class LoopPlan:
    """``kernel`` is run in ``steps``. ``axis``: the vector axis of the grid (None: inner). ``lanes`` elements fill a register, ``wide`` are processed at
    once where there are so many. ``block``: elements of ``axis`` per work unit (0: all). ``inner``: the vector axis of each step, where ``axis`` is
    None; ``kept``: rows are so short that they are written out and stay in registers."""

    kernel: Kernel
    steps: tuple[Step, ...]
    axis: Axis | None
    lanes: int
    wide: int
    block: int
    inner: tuple[Axis | None, ...]
    kept: bool = False


def _count(a: Axis) -> int:
    return GUESS if type(a.extent) is Dim else max(1, int(a.extent))


def _points(axes: Iterable[Axis]) -> float:
    out = 1.0
    for a in axes:
        out *= _count(a)
    return out


def element_bytes(kernel: Kernel) -> int:
    """Bytes of the widest register value that the kernel computes with; 64-bit integers (indices) don't count unless there is nothing else."""
    widest, integers = 0, 0
    for st in kernel.stages:
        for root in _values(st):
            for e in post_order([root]):
                size = 4 if e.dtype.is_float and e.dtype.itemsize == 2 else e.dtype.itemsize
                if e.dtype.is_int and size == 8:
                    integers = 8
                else:
                    widest = max(widest, size)
    return max(widest, 4) if integers and widest else widest or integers or 1


def _values(st) -> tuple[Expr, ...]:
    return (st.expr,) if isinstance(st, Store) else stage_exprs(st)


class _Costs:
    """Instructions per vector of each stage, by vector axis."""

    def __init__(self, kernel: Kernel, lanes: int):
        self.kernel, self.lanes = kernel, lanes
        self.loads: list[list[Load]] = [[e for e in post_order(stage_exprs(s)) if isinstance(e, Load)] for s in kernel.stages]
        self.ops = [sum(1 for e in post_order(_values(s)) if e.children) for s in kernel.stages]

    def _access(self, step: int | None) -> float:
        if step is None or type(step) is Dim:
            return 1.5 * self.lanes
        return {0: 0.4, 1: 1.0, -1: 2.0}.get(int(step), 1.2 * self.lanes)

    def body(self, i: int, axis: Axis | None) -> float:
        """Of one vector (one scalar, where ``axis`` is None) of stage i."""
        st = self.kernel.stages[i]
        total = 0.4 * self.ops[i]
        for e in self.loads[i]:
            total += 1.0 if axis is None else self._access(access(e.buffer, e.index).step(axis))
        if isinstance(st, Store):
            total += 1.0 if axis is None else self._access(access(st.buffer, st.index).step(axis))
        return total

    def step(self, step: Step, axis: Axis | None, grid: float) -> float:
        return sum(self.stage(i, axis, grid) for i in step.stages)

    def stage(self, i: int, axis: Axis | None, grid: float) -> float:
        st = self.kernel.stages[i]
        points = grid * _points((*st.axes, *getattr(st, "over", ())))
        if axis is None:
            return points * (self.body(i, None) + 1)
        n = _count(axis)
        vectors = -(-n // self.lanes) / n
        cost = points * vectors * (self.body(i, axis) + 1)
        if axis in getattr(st, "over", ()):  # partial results of the lanes have to be joined
            cost += grid * _points(st.axes) * 3 * log2(self.lanes)
        return cost


def choose(kernel: Kernel, target: Target) -> LoopPlan:
    """The cheapest plan."""
    lanes = max(2, target.vector_bytes // element_bytes(kernel))
    kernel, steps = steps_of(kernel)
    costs = _Costs(kernel, lanes)
    grid = _points(kernel.axes)
    inner = tuple(_inner_axis(costs, step, grid) for step in steps)
    best, best_cost = None, sum(costs.step(step, a, grid) for step, a in zip(steps, inner))
    for axis in reversed(kernel.axes):
        if not _may_be_outer(kernel, axis):
            continue
        cost = sum(costs.stage(i, axis, grid) for i in range(len(kernel.stages)))
        if cost < best_cost:
            best, best_cost = axis, cost
    if best is None:
        if _short(steps, inner, lanes, target):
            return LoopPlan(kernel, steps, None, lanes, lanes, 0, inner, kept=True)
        return LoopPlan(*keep(kernel, steps, 1), None, lanes, lanes, 0, inner)
    reduces = [s for s in kernel.stages if isinstance(s, (Reduce, Contract))]
    n = best.extent
    wide = lanes
    if reduces:
        state = max(len(s.monoid.state_dtypes(s.exprs)) if isinstance(s, Reduce) else 1 for s in reduces)
        while wide < WIDE * lanes and type(n) is int and n >= 2 * wide and state * wide < 4 * lanes:
            wide *= 2
    block = 0
    if reduces and len(kernel.axes) == 1:
        block = wide
    elif type(n) is Dim or n > 4096 or len(kernel.axes) == 1:
        block = max(wide, BLOCK_BYTES // element_bytes(kernel) // wide * wide)
    return LoopPlan(*keep(kernel, steps, wide), best, _fitting(lanes, n), _fitting(wide, n), block, ())


def _short(steps: tuple[Step, ...], inner: tuple[Axis | None, ...], lanes: int, target: Target) -> bool:
    """Whether the kernel sweeps one short row, more than once: its vectors then stay in registers."""
    swept = [(s, a) for s, a in zip(steps, inner) if s.axes]
    axes = {a for _, a in swept}
    if len(swept) < 2 or len(axes) != 1 or any(len(s.axes) != 1 for s, _ in swept):
        return False
    axis = axes.pop()
    if axis is None or type(axis.extent) is Dim:
        return False
    n = int(axis.extent)
    return n // lanes + (-(-(n % lanes) // lanes) if target.masks else n % lanes) <= target.registers // 2


def _fitting(lanes: int, n: int) -> int:
    """No more lanes than the least power of two that holds n."""
    if type(n) is Dim:
        return lanes
    while lanes > 2 and lanes // 2 >= n:
        lanes //= 2
    return lanes


def _inner_axis(costs: _Costs, step: Step, grid: float) -> Axis | None:
    """The vector axis of a step among those it loops over itself, or None."""
    stages = [costs.kernel.stages[i] for i in step.stages]
    best, best_cost = None, costs.step(step, None, grid)
    if any(isinstance(st, Store) and st.combine is not None for st in stages):
        return None  # lanes may hit the same element
    for axis in reversed(step.axes or (*stages[0].axes, *getattr(stages[0], "over", ()))):
        if type(axis.extent) is not Dim and axis.extent < 2:
            continue
        cost = costs.step(step, axis, grid)
        if cost < best_cost:
            best, best_cost = axis, cost
    return best


def _may_be_outer(kernel: Kernel, axis: Axis) -> bool:
    """Lanes along ``axis`` store to different elements, and no local tensor is indexed by it."""
    if type(axis.extent) is not Dim and axis.extent < 2:
        return False
    for st in kernel.stages:
        if isinstance(st, Store):
            step = access(st.buffer, st.index).step(axis)
            if step is None and st.combine is not None:
                return False
            if step is not None and (type(step) is Dim or step == 0) and st.combine is not None:
                return False
    return True
