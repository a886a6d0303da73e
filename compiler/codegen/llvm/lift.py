"""Lifting: sizes that come from free dimensions become run-time parameters, so that one object serves every batch size.

Each distinct ``Dim`` of a kernel (extents, constants, strides) is replaced by a free dimension of its own, p0, p1, ... in the order of the text; the
originals are the values that a call passes in ``params``. What is left is independent of the trace's names and values, so its text is the cache key.
The new dims have a huge nominal value: nothing may be decided by it, and bounds that involve it come out as "does not fit".
"""

from __future__ import annotations

from dataclasses import replace

from ....runtime.dim import Dim, unguarded
from ...kernel.expr import Axis, Check, Const, Expr, Fold, Load, Ref, post_order
from ...kernel.ir import Buffer, Kernel, Store, stage_exprs, with_axes, with_exprs

NOMINAL = 1 << 40


class _Lift:
    def __init__(self, length: int | None = None) -> None:
        self.length = length  # a plain size that is lifted too
        self.params: list[int] = []
        self.by_expr: dict[tuple, Dim] = {}
        self.memo: dict[int, Expr] = {}
        self.held: list[Expr] = []
        self.buffers: dict[tuple, Buffer] = {}

    def size(self, n: int) -> int:
        if type(n) is not Dim:
            return n
        return self.parameter(n, n.expr)

    def parameter(self, n: int, key: tuple) -> int:
        found = self.by_expr.get(key)
        if found is None:
            found = self.by_expr[key] = Dim.free(f"p{len(self.params)}", NOMINAL)
            self.params.append(n)
        return found

    def sizes(self, ns: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([self.size(n) for n in ns])

    def buffer(self, b: Buffer) -> Buffer:
        found = self.buffers.get(b.key)
        if found is None:
            # Only the steps matter to code: a shape that is a product of sizes would else be one more parameter.
            if self.length is not None and b.shape == (self.length,) and b.steps == (1,):
                found = replace(b, shape=(1,))
            elif all(type(n) is not Dim for n in (*b.shape, *b.steps)):
                found = b
            else:
                found = replace(b, shape=tuple([1 if type(n) is Dim else n for n in b.shape]), strides=self.sizes(b.steps))
            self.buffers[b.key] = found
        return found

    def axes(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple([self.axis(a) for a in axes])

    def axis(self, a: Axis) -> Axis:
        return Axis(a.name, self.parameter(a.extent, ("length",)) if self.length is not None else self.size(a.extent))

    def expr(self, root: Expr) -> Expr:
        for e in post_order([root]):
            if id(e) in self.memo:
                continue
            self.held.append(e)
            children = tuple([self.memo[id(c)] for c in e.children])
            new: Expr
            if isinstance(e, Const):
                new = Const(self.size(e.value), e.dtype) if type(e.value) is Dim else e
            elif isinstance(e, Axis):
                new = self.axis(e)
            elif isinstance(e, Load):
                n = len(e.index)
                new = Load(self.buffer(e.buffer), children[:n], *children[n:])
            elif isinstance(e, Check):
                new = Check(children[0], self.size(e.size), e.code)
            elif isinstance(e, (Ref, Fold)) or any(a is not b for a, b in zip(children, e.children)):
                new = e.with_children(children)
            else:
                new = e
            self.memo[id(e)] = new
        return self.memo[id(root)]


def _length(kernel: Kernel) -> int | None:
    """The plain extent of a kernel that is one loop over elements: its code is the same for any length, so that the updates of many weights are one kernel."""
    if len(kernel.axes) != 1 or type(kernel.axes[0].extent) is Dim:
        return None
    return kernel.axes[0].extent if all(isinstance(s, Store) and not s.axes and not s.over for s in kernel.stages) else None


def lift(kernel: Kernel) -> tuple[Kernel, tuple[int, ...]]:
    """(the kernel over parameters p0, p1, ..., the sizes that these stand for)."""
    with unguarded():
        state = _Lift(_length(kernel))
        axes = state.axes(kernel.axes)
        stages = []
        for s in kernel.stages:
            s = with_axes(with_exprs(s, [state.expr(e) for e in stage_exprs(s)]), state.axes)
            if isinstance(s, Store):
                s = replace(s, buffer=state.buffer(s.buffer))
            stages.append(s)
        buffers = tuple(state.buffer(b) for b in kernel.buffers)
        return replace(kernel, axes=axes, stages=tuple(stages), buffers=buffers), tuple(state.params)
