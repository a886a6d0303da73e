"""Collapsing axes: neighbouring axes that every access steps through as one axis become one; axes of extent 1 disappear.

Buffers become one-dimensional and are indexed by element offsets, so that a pointwise kernel over contiguous arrays is a single long loop whatever the
arrays' ranks, and kernels that differ only in how a shape is written are the same kernel.
"""

from __future__ import annotations

from dataclasses import replace

from ...runtime.dim import Dim, key, size
from ..kernel import simplify
from ..kernel.expr import Axis, Expr, Load, index, post_order
from ..kernel.ir import Buffer, Kernel, Store, stage_exprs, with_axes, with_exprs


def collapse(kernel: Kernel) -> Kernel:
    """An equal kernel with as few axes as possible. Stages are rebuilt; ``buffers`` of the result are left for the caller to set."""
    kernel = _address_form(_drop_unit_axes(kernel))
    changed = True
    while changed:
        changed = False
        for place in _axis_lists(kernel):
            axes = place(kernel)
            for a, b in zip(axes, axes[1:]):
                merged = _merge(kernel, a, b)
                if merged is not None:
                    kernel, changed = merged, True
                    break
            if changed:
                break
    return _canonical_names(kernel)


def _unit(a: Axis) -> bool:
    return type(a.extent) is not Dim and a.extent == 1


def _all_axes(kernel: Kernel) -> list[Axis]:
    out = list(kernel.axes)
    for s in kernel.stages:
        out += [*s.axes, *getattr(s, "over", ())]
    return out


def _rewrite(kernel: Kernel, mapping: dict[Axis, Expr], keep: dict[Axis, Axis | None]) -> Kernel:
    """Substitutes axes in all expressions; ``keep`` gives the new axis (or None to drop it) for every list of axes."""
    def lists(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        new = [keep.get(a, a) for a in axes]
        return tuple(dict.fromkeys(a for a in new if a is not None))

    memo: dict[int, Expr] = {}
    held: list[Expr] = []

    def fix(root: Expr) -> Expr:
        for e in post_order([root]):
            if id(e) not in memo:
                held.append(e)
                if isinstance(e, Axis):
                    memo[id(e)] = mapping.get(e, e)
                else:
                    memo[id(e)] = rebuild(e, tuple([memo[id(c)] for c in e.children]))
        return memo[id(root)]

    stages = [with_axes(with_exprs(s, [fix(e) for e in stage_exprs(s)]), lists) for s in kernel.stages]
    return replace(kernel, axes=lists(kernel.axes), stages=tuple(stages))


def rebuild(e: Expr, children: tuple[Expr, ...]) -> Expr:
    """``e`` over other operands; index arithmetic goes through ``simplify`` again."""
    if all(a is b for a, b in zip(children, e.children)):
        return e
    return simplify.again(e, children)


def _drop_unit_axes(kernel: Kernel) -> Kernel:
    unit = [a for a in _all_axes(kernel) if _unit(a)]
    return _rewrite(kernel, {a: index(0) for a in unit}, dict.fromkeys(unit)) if unit else kernel


def _flat(b: Buffer) -> Buffer:
    """The one-dimensional view of a row-major buffer."""
    return Buffer(b.name, (size(b.shape),), b.dtype)


def _address_form(kernel: Kernel) -> Kernel:
    memo: dict[int, Expr] = {}
    held: list[Expr] = []

    def fix(root: Expr) -> Expr:
        for e in post_order([root]):
            if id(e) not in memo:
                held.append(e)
                children = tuple([memo[id(c)] for c in e.children])
                if isinstance(e, Load):
                    n = len(e.index)
                    at = simplify.from_linear(*simplify.address(children[:n], e.buffer.steps))
                    memo[id(e)] = Load(_flat(e.buffer), (at,), *children[n:])
                else:
                    memo[id(e)] = rebuild(e, children)
        return memo[id(root)]

    stages = []
    for s in kernel.stages:
        s = with_exprs(s, [fix(e) for e in stage_exprs(s)])
        if isinstance(s, Store):
            at = simplify.from_linear(*simplify.address(s.index, s.buffer.steps))
            s = replace(s, buffer=_flat(s.buffer), index=(at,))
        stages.append(s)
    return replace(kernel, stages=tuple(stages))


def _axis_lists(kernel: Kernel):
    """Getters of every list of axes in which neighbours may merge."""
    places = [lambda k: k.axes]
    for i, s in enumerate(kernel.stages):
        places.append(lambda k, i=i: k.stages[i].axes)
        if not (isinstance(s, Store) and s.combine is not None):
            places.append(lambda k, i=i: getattr(k.stages[i], "over", ()))
    return places


def _merge(kernel: Kernel, a: Axis, b: Axis) -> Kernel | None:
    """The kernel with (a, b) as one axis, or None where some expression needs them apart."""
    merged = Axis(a.name, a.extent * b.extent)
    replacement: dict[int, Expr] = {}
    held: list[Expr] = []
    for s in kernel.stages:
        addresses = [s.index[0]] if isinstance(s, Store) else []
        roots = stage_exprs(s)
        for e in post_order(roots):
            if isinstance(e, Load):
                addresses.append(e.index[0])
        for at in addresses:
            if id(at) in replacement:
                continue
            terms, constant = simplify.linear(at)
            ka, kb = terms.get(a, 0), terms.get(b, 0)
            if key(ka) != key(kb * b.extent):
                return None
            if any(x is not a and x is not b and _mentions(x, a, b) for x in terms):
                return None
            rest = {x: k for x, k in terms.items() if x is not a and x is not b}
            if a in terms or b in terms:
                rest[merged] = kb
            replacement[id(at)] = simplify.from_linear(rest, constant)
            held.append(at)
    memo: dict[int, Expr] = dict(replacement)
    failed = False

    def fix(root: Expr) -> Expr:
        nonlocal failed
        stack = [(root, False)]
        while stack:
            e, ready = stack.pop()
            if id(e) in memo:
                continue
            if e is a or e is b:
                failed = True
                memo[id(e)] = e
            elif ready or not e.children:
                memo[id(e)] = rebuild(e, tuple([memo[id(c)] for c in e.children]))
                held.append(e)
            else:
                stack.append((e, True))
                stack.extend((c, False) for c in e.children)
        return memo[id(root)]

    def lists(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(merged if x is a else x for x in axes if x is not b)

    stages = []
    for s in kernel.stages:
        stages.append(with_axes(with_exprs(s, [fix(e) for e in stage_exprs(s)]), lists))
        if failed:
            return None
    return replace(kernel, axes=lists(kernel.axes), stages=tuple(stages))


def _mentions(e: Expr, a: Axis, b: Axis) -> bool:
    return any(x is a or x is b for x in post_order([e]))


def _canonical_names(kernel: Kernel) -> Kernel:
    """Axes named by their place: i0.. for the grid, then j0.. and r0.. stage by stage."""
    mapping: dict[Axis, Axis] = {}
    for n, axis in enumerate(kernel.axes):
        mapping[axis] = Axis(f"i{n}", axis.extent)
    own = over = 0
    for s in kernel.stages:
        for axis in s.axes:
            if axis not in mapping:
                mapping[axis] = Axis(f"j{own}", axis.extent)
                own += 1
        for axis in getattr(s, "over", ()):
            if axis not in mapping:
                mapping[axis] = Axis(f"r{over}", axis.extent)
                over += 1
    return _rewrite(kernel, dict(mapping), dict(mapping))
