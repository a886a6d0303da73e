"""Splitting axes of contractions, where an operand's index divides by a constant: grouped and strided transposed convolution as dense sums.

* ``x // c`` of a grid axis x (the group of a channel): x becomes two axes, the quotient and the rest.
* ``(x - r + n) % c == 0`` as a condition on a tap r (the window that a strided convolution's gradient looks for): x = c*q + p falls into c phases, and
  for each of them (c divides the extent of x) the taps that fit are r = c*t + (p + n) % c. What was a condition that most terms fail is a shorter sum over t.

The result is an equal kernel: its own interpretation, and that of the kernel given, are the same up to the order of terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...runtime.dim import Dim, ceil_div
from . import scalar_ops as s
from . import simplify
from .expr import TRUE, Axis, Const, Expr, Load, Op, index, post_order
from .ir import Contract, Kernel, stage_exprs, with_axes, with_exprs

LEAST = 4  # of a group's channels, from which on they are a vector


def split_axes(kernel: Kernel) -> Kernel:
    """``kernel`` with its axes split as far as the rules of this module go; kernels without one contraction are left as they are."""
    contracts = [x for x in kernel.stages if isinstance(x, Contract)]
    if len(contracts) != 1 or len(kernel.stages) != 1 + len(kernel.stores) or any(x.axes or x.over or x.combine for x in kernel.stores):
        return kernel
    while True:
        (contract,) = (x for x in kernel.stages if isinstance(x, Contract))
        new = _in_phases(kernel, contract) or _in_groups(kernel, contract)
        if new is None:
            return kernel
        kernel = new


def _conditions(e: Expr | None) -> list[Expr]:
    """The conditions that ``e`` joins."""
    if e is None:
        return []
    if isinstance(e, Op) and e.fn is s.and_:
        return [c for x in e.children for c in _conditions(x)]
    return [e]


def _static(*sizes: int) -> bool:
    return all(type(n) is not Dim for n in sizes)


def _in_phases(kernel: Kernel, contract: Contract) -> Kernel | None:
    if not isinstance(contract.a, Load) or not isinstance(contract.b, Load):
        return None
    for load in (contract.a, contract.b):
        for e in _conditions(load.guard):
            if not (isinstance(e, Op) and e.fn is s.eq and isinstance(e.children[0], Op) and e.children[0].fn is s.mod):
                continue
            whole, divisor = e.children[0].children
            if not isinstance(divisor, Const) or not isinstance(e.children[1], Const) or not _static(divisor.value, e.children[1].value):
                continue
            c = divisor.value
            terms, constant = simplify.linear(simplify.sub(whole, e.children[1]))
            own = {x: k for x, k in terms.items() if type(k) is Dim or k % c}
            xs, rs = [x for x in own if x in kernel.axes and own[x] == 1], [x for x in own if x in contract.over and own[x] == -1]
            if len(own) != 2 or len(xs) != 1 or len(rs) != 1 or not _static(xs[0].extent, rs[0].extent, constant):  # type: ignore[attr-defined]
                continue
            if xs[0].extent % c:  # type: ignore[attr-defined]
                continue
            return _phases(kernel, contract, xs[0], rs[0], c, constant % c)  # type: ignore[arg-type]
    return None


def _phases(kernel: Kernel, contract: Contract, x: Axis, r: Axis, c: int, n: int) -> Kernel:
    """x = c*q + p and r = c*t + (p + n) % c."""
    p, q, t = Axis(x.name + "p", c), Axis(x.name + "q", x.extent // c), Axis(r.name + "t", ceil_div(r.extent, c))
    shifted = simplify.add(p, index(n))
    first = simplify.sub(shifted, simplify.mul(simplify.floordiv(shifted, c), c))  # (p + n) % c, in the form that sums cancel
    point = simplify.add(simplify.mul(q, c), p)
    tap = simplify.add(simplify.mul(t, c), first)
    new = _substituted(kernel, {x: point, r: tap}, {x: (q,), r: (t,)})
    new = replace(new, axes=(p, *new.axes))
    inside = TRUE if r.extent % c == 0 else simplify.less(tap, index(r.extent))
    stages = [replace(st, a=_guarded(st.a, inside), b=_guarded(st.b, inside)) if isinstance(st, Contract) else st for st in new.stages]
    return replace(new, stages=tuple(stages))


def _guarded(e: Expr, condition: Expr) -> Expr:
    """A load only where ``condition`` holds too, else 0."""
    if condition is TRUE or not isinstance(e, Load):
        return e
    guard = condition if e.guard is None else simplify.both(e.guard, condition)
    return Load(e.buffer, e.index, guard, Const(0, e.dtype) if e.other is None else e.other)


def _in_groups(kernel: Kernel, contract: Contract) -> Kernel | None:
    for e in post_order(stage_exprs(contract)):
        if isinstance(e, Op) and e.fn is s.floordiv and isinstance(e.children[1], Const) and e.children[0] in kernel.axes:
            x, c = e.children[0], e.children[1].value
            assert isinstance(x, Axis)
            if _static(x.extent, c) and x.extent % c == 0 and LEAST <= c < x.extent:
                g, j = Axis(x.name + "g", x.extent // c), Axis(x.name + "j", c)
                return _substituted(kernel, {x: simplify.add(simplify.mul(g, c), j)}, {x: (g, j)})
    return None


def _substituted(kernel: Kernel, mapping: Mapping[Axis, Expr], axes: Mapping[Axis, tuple[Axis, ...]]) -> Kernel:
    """The kernel over other axes."""
    memo: dict[int, Expr] = {}
    held: list[Expr] = []

    def fix(root: Expr) -> Expr:
        for e in post_order([root]):
            if id(e) not in memo:
                held.append(e)
                children = tuple([memo[id(x)] for x in e.children])
                new = mapping.get(e, e) if isinstance(e, Axis) else e
                if any(a is not b for a, b in zip(children, e.children)):
                    new = _linear_load(e, children) if isinstance(e, Load) else simplify.again(e, children)
                memo[id(e)] = new
        return memo[id(root)]

    def lists(old: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(b for a in old for b in axes.get(a, (a,)))

    stages = tuple(with_axes(with_exprs(st, [fix(e) for e in stage_exprs(st)]), lists) for st in kernel.stages)
    return replace(kernel, axes=lists(kernel.axes), stages=stages)


def _linear_load(e: Load, children: tuple[Expr, ...]) -> Load:
    """A load whose conditions are simplified anew (they were joined before parts of them became true)."""
    if e.guard is None:
        return Load(e.buffer, children)
    guard: Expr = TRUE
    for c in _conditions(children[-2]):
        guard = simplify.both(guard, c)
    return Load(e.buffer, children[:-2]) if guard is TRUE else Load(e.buffer, children[:-2], guard, children[-1])
